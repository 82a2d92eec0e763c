"""Blue and green from the command line, on a cluster: which colour has what, and the idle one installed by Helm before a rollout to it.

The operator only ever changes the Route (`relevo.platforms.blue_green`); installing is done here, with the rights of whoever asks for it.
"""

from __future__ import annotations

from pathlib import Path

from relevo.cli.output import tell
from relevo.errors import BadInput
from relevo.platforms.blue_green.helm import Helm, values_of
from relevo.platforms.blue_green.objects import Colour
from relevo.platforms.blue_green.platform import BlueGreenPlatform, is_coloured, is_ours
from relevo.platforms.cluster_api import Objects
from relevo.platforms.colours import other, parse_colour
from relevo.rollout.spec import RolloutSpec

__all__ = ["CHART", "Colours"]

CHART = Path(__file__).resolve().parents[2] / "charts" / "model"

Found = dict[str, Colour | None]


class Colours:
    """The colours of models in one namespace."""

    def __init__(self, objects: Objects, namespace: str, helm: Helm, chart: Path = CHART) -> None:
        self._objects = objects
        self._namespace = namespace
        self._helm = helm
        self._chart = chart

    def of(self, target: str) -> Found:
        """What each colour has, the active one first; empty for a model without colours.

        Raises:
            BadInput: there are colours and no Route over them.
        """
        where = (self._objects, self._namespace, target)
        if not is_coloured(*where) and not is_ours(*where):
            return {}
        return BlueGreenPlatform(self._namespace, self._objects).colours(target)

    def check(self, spec: RolloutSpec, colours: Found) -> None:
        """Refuse a strategy that does not fit, and the version that the active colour has. Raises `BadInput`."""
        target = spec.target
        if spec.strategy.blue_green is None:
            if colours and spec.strategy.immediate is None:
                raise BadInput(
                    f"{target}: is served by two colours, and the strategy is canary",
                    next_step=f"Use `relevo deploy-blue-green {target}`; strategy.blueGreen.weights switches step by step.",
                )
            return
        if not colours:
            raise BadInput(
                f"{target}: has no colours in namespace {self._namespace}",
                next_step="docs/blue-green.md says how they are installed; or bring the new version by `relevo deploy-canary`.",
            )
        active = next(iter(colours))
        serves = colours[active]
        if serves is not None and serves.storage_uri == spec.storage_uri:
            raise BadInput(
                f"{target}: {active} serves {spec.storage_uri} already, so {other(active)} would be the same",
                next_step=f"Name another version with --version; `relevo switch {target}` sends users to {other(active)} as it is.",
            )

    def wanted(self, target: str, colours: Found, to: str | None) -> Colour | None:
        """The colour that a switch is to; None where users are with it already. Raises `BadInput`."""
        chosen = parse_colour(to) if to is not None else None
        if not colours:
            raise BadInput(
                f"{target}: has no colours, it is served by one revision after another",
                next_step="docs/blue-green.md says how colours are installed.",
            )
        active, idle = colours
        if (chosen or idle) == active:
            return None
        colour = colours[idle]
        if colour is None:
            raise BadInput(
                f"{target}: {idle} is not installed in namespace {self._namespace}",
                next_step=f"`relevo deploy-blue-green {target} --version N` installs it.",
            )
        return colour

    def install(self, target: str, colours: Found, storage_uri: str) -> None:
        """Have the idle colour serve this model, as a Helm release; nothing is done where it does.

        Raises:
            BadInput: it was installed by hand, or its release is in a failed state. Permanent: helm is missing or refuses.
        """
        active, idle = colours
        name, there = f"{target}-{idle}", colours[idle]
        if there is not None and there.storage_uri == storage_uri:
            return
        if there is not None and there.release != name:
            how = f"by release {there.release}" if there.release else "by hand, with values of its own"
            raise BadInput(
                f"InferenceService {name} was installed {how}, so release {name} cannot replace its model",
                next_step=f"Delete it (`kubectl delete inferenceservice {name} --namespace {self._namespace}`; no user is sent there), "
                f"or give it the model yourself: {storage_uri}.",
            )
        values = values_of(idle, self._helm.release(name), self._helm.release(f"{target}-{active}"), storage_uri)
        values["model"].setdefault("name", target)
        tell(f"Installing {name}: {storage_uri}")
        self._helm.install(name, self._chart, values)
