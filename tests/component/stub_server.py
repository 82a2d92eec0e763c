"""A model server without a model, with the command line of `relevo.serving`: what the platform's tests put behind Envoy.

How it behaves is said by the last part of the storage URI, before the version: `refused` exits with 3, `crashing` with 1, `unready`
never becomes ready, `slow` answers after 300 ms, `long` after 3 s, `failing` answers 500; any other name is well.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys

SECONDS = {"slow": 0.3, "long": 3.0}


def behaviour(storage_uri: str) -> str:
    """The part of the URI that says how to behave."""
    return storage_uri.rsplit("/", 1)[-1].partition(":")[0]


class Stub:
    """Speaks just enough HTTP/1.1."""

    def __init__(self, kind: str, revision: str) -> None:
        self.kind = kind
        self.revision = revision
        self.active = 0
        self.stopping = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        try:
            while request := await reader.readline():
                path = request.split()[1].decode()
                length = 0
                while (line := (await reader.readline()).strip()) != b"":
                    key, _, value = line.partition(b":")
                    length = int(value) if key.lower() == b"content-length" else length
                await reader.readexactly(length)
                self.active += 1
                try:
                    writer.write(await self.answer(path))
                    await writer.drain()
                finally:
                    self.active -= 1
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def answer(self, path: str) -> bytes:
        """The answer to a request of this path."""
        if path == "/v2/health/ready":
            return self.response(503 if self.kind == "unready" or self.stopping else 200, "{}")
        await asyncio.sleep(SECONDS.get(self.kind, 0.0))
        body = f'{{"model_version": "{self.revision}", "path": "{path}"}}'
        return self.response(500 if self.kind == "failing" else 200, body)

    def response(self, code: int, body: str) -> bytes:
        """An answer in bytes."""
        head = f"HTTP/1.1 {code} X\r\ncontent-type: application/json\r\nx-relevo-revision: {self.revision}\r\n"
        return f"{head}content-length: {len(body)}\r\n\r\n{body}".encode()


async def run(options: argparse.Namespace) -> None:
    """Serve until SIGTERM, then finish what is under way."""
    stub = Stub(behaviour(options.storage_uri), options.revision)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    server = await asyncio.start_server(stub.serve, options.host, options.http_port)
    await stop.wait()
    stub.stopping = True
    server.close()
    while stub.active:
        await asyncio.sleep(0.01)


def main() -> int:
    """Parse and serve."""
    parser = argparse.ArgumentParser()
    for option in ("--storage-uri", "--name", "--revision", "--host"):
        parser.add_argument(option, required=True)
    for option in ("--http-port", "--grpc-port"):
        parser.add_argument(option, type=int, required=True)
    options = parser.parse_args()
    kind = behaviour(options.storage_uri)
    print(f"serving {options.storage_uri} as {options.revision}", file=sys.stderr)
    if kind == "refused":
        print("model package iris: model.onnx was changed", file=sys.stderr)
        return 3
    if kind == "crashing":
        print("out of luck", file=sys.stderr)
        return 1
    asyncio.run(run(options))
    return 0


if __name__ == "__main__":
    sys.exit(main())
