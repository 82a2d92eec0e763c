"""One replica acts: whoever holds the Lease (coordination.k8s.io) and has renewed it in time. The others watch, and are ready.

As client-go does it: a lease is taken over when its record has not changed for its whole duration by our own clock, so that clocks need
not agree. A replica that ends in peace gives the lease back; one whose pod is gone is waited for no longer. Should its process still live
for a moment, then two act: the status is written only over the version that was read, so one of them gives up.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from relevo.errors import Conflict, RelevoError
from relevo.operator.keeper import Api
from relevo.platforms.cluster_api import PODS, Kind

__all__ = ["LEASES", "Lease", "identity", "own_pod", "pod_of"]

_log = logging.getLogger(__name__)

LEASES = Kind("/apis/coordination.k8s.io/v1", "leases")

DURATION_SECONDS = 4.0
"""How long a holder that says nothing keeps the lease."""

RENEW_SECONDS = 1.0
GLANCE_SECONDS = 0.2
"""How often one that waits looks whether the holder's pod is still there: what a rollout is late by, when it is gone."""
LET_GO_SECONDS = 3.0
"""A holder that could not renew it for so long acts no more: earlier than anybody else may."""


def own_pod(api: Api, namespace: str) -> str | None:
    """The pod that we are in, by POD_NAME, if others find it beside the lease. One that they did not find they would take for gone."""
    pod = os.environ.get("POD_NAME")
    try:
        return pod if pod and api.get(PODS, namespace, pod) is not None else None
    except RelevoError:
        return None


def identity(pod: str | None) -> str:
    """Who this process is: its pod (`own_pod`), or else its machine; and which process there."""
    return f"{pod}_{os.getpid()}" if pod else f"{socket.gethostname()}:{os.getpid()}"


def pod_of(holder: str) -> str:
    """The pod of an `identity`; "" for one that is none."""
    return "" if ":" in holder else holder.rpartition("_")[0]


class Lease:
    """Our share in one Lease."""

    def __init__(
        self,
        api: Api,
        *,
        namespace: str,
        name: str,
        me: str,
        on_taken: Callable[[], None],
        on_lost: Callable[[], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._namespace = namespace
        self._name = name
        self._me = me
        self._on_taken = on_taken
        self._on_lost = on_lost
        self._monotonic = monotonic
        self._renewed_at: float | None = None
        self._seen: tuple[str, str] = ("", "")
        self._seen_at = 0.0
        self._said = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="lease", daemon=True)

    def start(self) -> None:
        """Begin to strive for it."""
        self._thread.start()

    def stop(self) -> None:
        """Strive no more, and give it back."""
        self._stop.set()
        self._thread.join(timeout=5.0)
        if self._renewed_at is not None:
            self._lose()
            try:
                self._write(self._read(), holder="")
            except RelevoError as error:
                _log.warning("the lease could not be given back: %s", error.message)

    def held(self) -> bool:
        """Whether we may act."""
        renewed_at = self._renewed_at
        return renewed_at is not None and self._monotonic() - renewed_at < LET_GO_SECONDS

    def look(self) -> None:
        """Renew it, take it, or see who has it."""
        try:
            began = self._monotonic()
            if self._ours(self._read()):
                if self._renewed_at is None:
                    _log.info("this replica acts now (%s)", self._me)
                    self._renewed_at = began
                    self._on_taken()
                self._renewed_at = began
                self._said = ""
                return
        except Conflict:
            return  # somebody was faster; the next look shows who
        except RelevoError as error:
            if error.message != self._said:
                self._said = error.message
                _log.warning("the lease %s/%s: %s %s", self._namespace, self._name, error.message, error.next_step)
        if self._renewed_at is not None and not self.held():
            self._lose()

    def _lose(self) -> None:
        self._renewed_at = None
        _log.warning("this replica does not act any more (%s)", self._me)
        self._on_lost()

    def _loop(self) -> None:
        while not self._stop.is_set():
            self.look()
            self.wait(RENEW_SECONDS)

    def wait(self, seconds: float) -> None:
        """Wait for the next look: so long, or until the pod of another holder is gone, or until we stop."""
        until = self._monotonic() + seconds
        while (left := until - self._monotonic()) > 0 and not self._stop.wait(min(left, GLANCE_SECONDS)):
            if self._renewed_at is None and self._is_gone(self._seen[0]):
                return

    def _ours(self, lease: dict[str, Any] | None) -> bool:
        """Renew or take it where we may."""
        if lease is None:
            self._api.create(LEASES, self._namespace, self._manifest(self._me, None))
            return True
        spec = lease.get("spec", {})
        holder = spec.get("holderIdentity") or ""
        record = (holder, str(spec.get("renewTime")))
        now = self._monotonic()
        if record != self._seen:
            self._seen, self._seen_at = record, now
        duration = float(spec.get("leaseDurationSeconds") or DURATION_SECONDS)
        if holder in ("", self._me) or now - self._seen_at > duration or self._is_gone(holder):
            self._write(lease, holder=self._me)
            return True
        if self._renewed_at is not None:
            self._lose()
        return False

    def _is_gone(self, holder: str) -> bool:
        """Whether the holder is a pod that is there no more."""
        pod = pod_of(holder)
        if not pod:
            return False
        try:
            found = self._api.get(PODS, self._namespace, pod)
        except RelevoError:
            return False  # not known, so its time decides
        return found is None or found.get("status", {}).get("phase") in ("Failed", "Succeeded")

    def _read(self) -> dict[str, Any] | None:
        return self._api.get(LEASES, self._namespace, self._name)

    def _write(self, lease: dict[str, Any] | None, *, holder: str) -> None:
        if lease is not None:
            self._api.replace(LEASES, self._namespace, self._name, self._manifest(holder, lease))

    def _manifest(self, holder: str, before: dict[str, Any] | None) -> dict[str, Any]:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = dict(before["spec"]) if before and before.get("spec") else {}
        if holder and spec.get("holderIdentity") != holder:
            spec |= {"acquireTime": now, "leaseTransitions": int(spec.get("leaseTransitions") or 0) + 1}
        spec |= {"holderIdentity": holder, "leaseDurationSeconds": int(DURATION_SECONDS), "renewTime": now}
        metadata: dict[str, Any] = {"name": self._name, "namespace": self._namespace}
        if before:
            metadata["resourceVersion"] = before["metadata"]["resourceVersion"]
        return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
