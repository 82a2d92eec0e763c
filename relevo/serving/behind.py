"""KServe's application, imported in a thread: it takes seconds to import, and the fast path does not need it.

The import begins when the server is ready; a request that needs KServe before it is there waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import threading
import warnings
from collections.abc import Callable
from time import monotonic
from typing import Any

from relevo import errors
from relevo.serving.asgi import AsgiApp, Receive, Scope, Send
from relevo.serving.revision import Revision

__all__ = ["Behind"]

_log = logging.getLogger(__name__)

_SWITCH_SECONDS = 0.0005
"""How long the importing thread may keep others waiting, where Python's own default is ten times that."""


class Behind:
    """An ASGI application that is KServe's, once that is imported."""

    def __init__(self, revision: Revision, build: Callable[[Revision], AsgiApp] | None = None) -> None:
        self._revision = revision
        self._build: Callable[[Revision], AsgiApp] = build or _build
        self._app: AsgiApp | None = None
        self._coming: asyncio.Future[AsgiApp] | None = None

    def begin(self) -> asyncio.Future[AsgiApp]:
        """Begin to import KServe, unless that has begun. Call it on the event loop."""
        if self._coming is None:
            loop = asyncio.get_running_loop()
            coming = self._coming = loop.create_future()

            def deliver(app: AsgiApp | None, error: BaseException | None) -> None:
                if coming.cancelled():
                    return
                if error is None and app is not None:
                    self._app = app
                    coming.set_result(app)
                else:
                    coming.set_exception(error or RuntimeError("no application was built"))
                    coming.exception()  # seen: each request that needs it raises it again

            def work() -> None:
                app: AsgiApp | None = None
                error: BaseException | None = None
                try:
                    app = self._build(self._revision)
                except BaseException as raised:
                    _log.exception("KServe's application cannot be built")
                    error = raised
                with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile: nobody waits any more
                    loop.call_soon_threadsafe(deliver, app, error)

            # A daemon: a server that is told to end while it still imports need not wait for it.
            threading.Thread(target=work, name="import-kserve", daemon=True).start()
        return self._coming

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app if self._app is not None else await asyncio.shield(self.begin())
        await app(scope, receive, send)


def _build(revision: Revision) -> Any:
    began = monotonic()
    before = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_SECONDS)
    try:
        # KServe answers by a class that FastAPI has deprecated; FastAPI would say so in the log of every server.
        warnings.filterwarnings("ignore", message="ORJSONResponse is deprecated")
        logging.getLogger("kserve").setLevel(logging.WARNING)
        from relevo.serving.application import build

        app = build(revision)
        try:
            revision.load_large()
        except errors.RelevoError as error:
            _log.warning("large requests stay with ONNX Runtime: %s", error)
    finally:
        sys.setswitchinterval(before)
    _log.debug("KServe's application is there after %.1f s", monotonic() - began)
    return app
