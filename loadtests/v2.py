"""Replay held-out rows with their labels as V2 inference requests, one random row each, and count what becomes of them.

    locust -f loadtests/v2.py --host http://127.0.0.1:8080 --model iris --rows heldout.npz

Requests go to the users' address; who answered is read from the answer's headers. Which split routed a request is read from there
too, or, where no proxy says so, it is the label that was announced when the request was sent (see `orders`). While a shadow stage is
set (see `web`), every other request is a pair instead: the same row to both revisions' direct addresses, in random order. `rows`,
`connection`, `answers` and `tally` are its parts, `distributed` spreads it over machines; `relevo.evidence.locust` steers it. Runs
alone as well, with Locust's UI or `--headless`.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

# Locust loads this file by its path: make its neighbours importable from wherever it is called.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import gevent
from locust import User, constant_throughput, events, task
from locust.runners import MasterRunner, WorkerRunner

from loadtests import distributed
from loadtests.answers import Answer, read_answer
from loadtests.connection import Connection
from loadtests.orders import Orders
from loadtests.rows import Row, read_rows
from loadtests.tally import Tally
from loadtests.web import add_routes
from relevo.access.credential import Credential
from relevo.errors import BadInput
from relevo.evidence.source import ShadowTargets
from relevo.packaging.package import HELDOUT, load_package

__all__ = ["ModelUser"]

_BAD_INPUT_EXIT_CODE = 3
"""Tells the supervisor that starting again changes nothing."""


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def add_options(parser: Any) -> None:
    """Add this load test's options to Locust's."""
    group = parser.add_argument_group("relevo", "What is replayed, and how")
    add = group.add_argument
    add("--model", default="iris", env_var="RELEVO_MODEL", help="Model name in /v2/models/NAME/infer")
    add(
        "--rows",
        default="",
        env_var="RELEVO_ROWS",
        help="Rows to replay: a package's heldout.npz, or CSV with a column y",
    )
    add(
        "--package", default="", env_var="RELEVO_PACKAGE", help="A package's folder, instead of --rows and --input-name"
    )
    add("--input-name", default="x", env_var="RELEVO_INPUT_NAME", help="Name of the model's input tensor")
    add("--datatype", default="FP64", choices=["FP32", "FP64"], env_var="RELEVO_DATATYPE", help="Its V2 datatype")
    add("--requests-per-user", type=float, default=10.0, env_var="RELEVO_REQUESTS_PER_USER", help="Per second and user")
    add("--host-header", default="", env_var="RELEVO_HOST_HEADER", help="Host header, where it is not --host's own")
    add(
        "--credential",
        default="",
        env_var="RELEVO_CREDENTIAL",
        help="Folder of what requests carry, where not anybody may ask",
    )
    add("--request-timeout-seconds", type=float, default=30.0, env_var="RELEVO_REQUEST_TIMEOUT_SECONDS")


class ModelUser(User):  # type: ignore[misc]  # locust comes without types
    """Somebody who asks the model for one prediction after another, at a steady pace."""

    tally = Tally()
    rows: Sequence[Row] = ()
    orders = Orders()
    connect: Callable[[str], Connection]
    period_seconds = 0.1

    def on_start(self) -> None:
        """Begin at a random moment of the pace: users who start together must not ask in step."""
        self._connections: dict[str, Connection] = {}
        self._shadow_next = random.random() < 0.5
        gevent.sleep(random.uniform(0, self.period_seconds))

    def on_stop(self) -> None:
        """Close what is open."""
        for connection in self._connections.values():
            connection.close()

    @task  # type: ignore[untyped-decorator]
    def ask(self) -> None:
        """Send one row through the proxy, or to both revisions when it is the shadow's turn."""
        # Half of the turns stay with the proxy: the stable revision's latency is measured on the way that users go.
        targets, self._shadow_next = self.orders.shadow, not self._shadow_next
        row = random.choice(self.rows)
        if targets is not None and self._shadow_next:
            self._ask_both(row, targets)
        else:
            self._send(row, self.host, "V2 infer")

    def _ask_both(self, row: Row, targets: ShadowTargets) -> None:
        arms = [("stable", targets.stable_url, targets.stable_revision)]
        arms.append(("candidate", targets.candidate_url, targets.candidate_revision))
        if random.random() < 0.5:
            arms.reverse()  # whoever comes second may find warmer caches: neither shall always
        answers = {
            arm: self._send(row, url, f"V2 infer, shadow {arm}", label=targets.label, revision=revision)
            for arm, url, revision in arms
        }
        self.tally.record_pair(targets.label, answers["stable"], answers["candidate"])

    def _send(self, row: Row, url: str, name: str, *, label: str = "", revision: str = "") -> Answer:
        """Send, count, and tell Locust. `label` and `revision` are what is known of a request that the proxy does not see."""
        connection = self._connections.get(url)
        if connection is None:
            connection = self._connections[url] = type(self).connect(url)
        announced = self.orders.label  # before it is sent: later the split may be another
        started = perf_counter()
        response = connection.send(row.payload)
        latency_ms = (perf_counter() - started) * 1000
        answer = Answer(problem=response.problem) if response.problem else read_answer(response.status, response.body)
        if revision and response.revision not in ("", revision):
            # A direct address that now belongs to another revision tells nothing about this one.
            answer = Answer(problem=f"answered by {response.revision} instead of {revision}")
            self.tally.record(label, response.revision, answer, latency_ms, row.label)
        else:
            routed_by = label or response.route or announced
            self.tally.record(routed_by, revision or response.revision, answer, latency_ms, row.label)
        self.environment.events.request.fire(
            request_type="POST",
            name=name,
            response_time=latency_ms,
            response_length=len(response.body),
            exception=ValueError(answer.problem) if answer.problem else None,
            context={},
        )
        return answer


@events.init.add_listener  # type: ignore[untyped-decorator]
def set_up(environment: Any, runner: Any, web_ui: Any, **_: Any) -> None:
    """Read the rows, check the options, add the route. Bad input ends the process with a sentence, not a traceback."""
    try:
        if not isinstance(runner, MasterRunner):
            _prepare_users(environment.parsed_options)
    except BadInput as problem:
        print(f"error: {problem.message}", problem.next_step, file=sys.stderr)
        sys.exit(_BAD_INPUT_EXIT_CODE)

    def tell_workers() -> None:
        """There are none, unless this is the master."""

    if isinstance(runner, MasterRunner):
        tell_workers = distributed.lead_workers(environment, ModelUser.tally, ModelUser.orders)
    elif isinstance(runner, WorkerRunner):
        distributed.follow_master(environment, ModelUser.tally, ModelUser.orders)
    if web_ui is not None:
        add_routes(web_ui.app, runner, ModelUser.tally, ModelUser.orders, tell_workers)
    # The event loop still has the time at which it last ran, before the imports and the rows: timers set next, --run-time above all,
    # would end too early by as much.
    gevent.get_hub().loop.update_now()


def _prepare_users(options: Any) -> None:
    rows, input_name = _rows_of(options)
    if not options.requests_per_user > 0:
        raise BadInput(f"--requests-per-user is {options.requests_per_user}:", next_step="give a number above 0.")
    if not options.request_timeout_seconds > 0:
        raise BadInput(
            f"--request-timeout-seconds is {options.request_timeout_seconds}:", next_step="give more than 0."
        )

    credential = Credential(Path(options.credential)) if options.credential else None

    def connect(url: str) -> Connection:
        return Connection(url, options.model, options.host_header, options.request_timeout_seconds, credential)

    if options.host:
        connect(options.host).close()  # so that a bad address is refused now, not by every user
    elif not isinstance(options.worker, bool) or not options.worker:
        raise BadInput("--host is missing:", next_step="give the proxy's address, like http://127.0.0.1:8080.")
    ModelUser.rows = read_rows(rows, input_name=input_name, datatype=options.datatype)
    ModelUser.connect = staticmethod(connect)
    ModelUser.wait_time = constant_throughput(options.requests_per_user)
    ModelUser.period_seconds = 1 / options.requests_per_user


def _rows_of(options: Any) -> tuple[Path, str]:
    """The file of the rows, and the name of the model's input tensor."""
    if options.package and options.rows:
        raise BadInput("--rows and --package are both given:", next_step="leave one of them out.")
    if options.package:
        package = load_package(options.package)
        return package.folder / HELDOUT, package.metadata.input.name
    if not options.rows:
        raise BadInput("--rows is missing:", next_step="name a package's heldout.npz, or a CSV file with a column y.")
    return Path(options.rows), options.input_name
