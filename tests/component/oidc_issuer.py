"""A small OIDC issuer, run as a process of its own: `python oidc_issuer.py FOLDER`.

It serves FOLDER/discovery.json and FOLDER/jwks.json, read anew for each request, writes its port into FOLDER/port and a line for each
request into FOLDER/asked. Whoever holds the private keys (the test) signs the tokens.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa


def serve(folder: Path, port: int) -> None:
    """Answer until the process is ended."""
    files = {"/.well-known/openid-configuration": folder / "discovery.json", "/jwks": folder / "jwks.json"}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with (folder / "asked").open("a") as asked:
                asked.write(self.path + "\n")
            body = files[self.path].read_bytes() if self.path in files and files[self.path].exists() else b""
            self.send_response(200 if body else 404)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    (folder / "port.new").write_text(str(server.server_address[1]))
    (folder / "port.new").rename(folder / "port")
    server.serve_forever()


class Issuer:
    """The issuer's process, and the keys that it signs by."""

    audience = "relevo-test"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.keys: dict[str, Any] = {"rsa-1": rsa.generate_private_key(public_exponent=65537, key_size=2048)}
        self.keys["ec-1"] = ec.generate_private_key(ec.SECP256R1())
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""
        self.publish("rsa-1", "ec-1")
        self.start()

    def start(self) -> None:
        """Run it; a second time at the same port."""
        port = (self.folder / "port").read_text() if self.url else "0"
        (self.folder / "port").unlink(missing_ok=True)
        command = [sys.executable, __file__, str(self.folder), port]
        self._process = subprocess.Popen(command)
        deadline = time.monotonic() + 60
        while not (self.folder / "port").exists():
            assert time.monotonic() < deadline, "the issuer did not start"
            time.sleep(0.05)
            if self._process.poll() is not None:  # somebody's connection has the port just now
                self._process = subprocess.Popen(command)
        self.url = f"http://127.0.0.1:{(self.folder / 'port').read_text()}"
        document = {"issuer": self.url, "jwks_uri": f"{self.url}/jwks"}
        (self.folder / "discovery.json").write_text(json.dumps(document))

    def stop(self) -> None:
        """End it; nothing answers at its address then."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def publish(self, *names: str) -> None:
        """Have these keys in the set that it shows."""
        entries = []
        for name in names:
            public = self.keys[name].public_key()
            algorithm = jwt.algorithms.RSAAlgorithm if name.startswith("rsa") else jwt.algorithms.ECAlgorithm
            entries.append({**algorithm.to_jwk(public, as_dict=True), "kid": name, "use": "sig"})
        new = self.folder / "jwks.new"
        new.write_text(json.dumps({"keys": entries}))
        os.replace(new, self.folder / "jwks.json")

    def asked(self) -> int:
        """How often it was asked for anything."""
        path = self.folder / "asked"
        return len(path.read_text().splitlines()) if path.exists() else 0

    def token(
        self, key: str = "rsa-1", algorithm: str = "", headers: dict[str, str] | None = None, **claims: Any
    ) -> str:
        """A token that is good but for what is changed; a claim of None is left out."""
        now = int(time.time())
        content = {"iss": self.url, "aud": self.audience, "sub": "ada", "exp": now + 600, "nbf": now - 5} | claims
        algorithm = algorithm or ("RS256" if key.startswith("rsa") else "ES256")
        return jwt.encode(
            {name: value for name, value in content.items() if value is not None},
            self.keys[key],
            algorithm=algorithm,
            headers={"kid": key} | (headers or {}),
        )


@contextmanager
def issuing(folder: Path) -> Iterator[Issuer]:
    """An issuer for the body."""
    folder.mkdir(parents=True, exist_ok=True)
    issuer = Issuer(folder)
    try:
        yield issuer
    finally:
        issuer.stop()


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]))
