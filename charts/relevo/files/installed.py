"""What `helm test` runs inside the cluster: is the Rollouts' API served where they are watched, and is the operator well?

Arguments: the operator's URL, then the watched namespaces (none: all of them). Standard library only. Exit code 0 when all is well.
"""

import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.request

ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
DEADLINE_SECONDS = 60.0


def read(url: str, headers: dict[str, str] | None = None, context: ssl.SSLContext | None = None) -> str:
    """The body of a 2xx answer; raises OSError otherwise."""
    request = urllib.request.Request(url, headers=headers or {})
    with urllib.request.urlopen(request, timeout=10, context=context) as answer:
        return answer.read().decode()


def api(path: str) -> dict:
    """Read from the API server as this pod's account."""
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    with open(f"{ACCOUNT}/token", encoding="utf-8") as file:
        token = file.read().strip()
    context = ssl.create_default_context(cafile=f"{ACCOUNT}/ca.crt")
    shown = f"[{host}]" if ":" in host else host
    return json.loads(read(f"https://{shown}:{port}{path}", {"Authorization": f"Bearer {token}"}, context))


def rollouts(namespace: str) -> str:
    """How many Rollouts a namespace has, as a sentence; of all namespaces for ""."""
    where, shown = (f"/namespaces/{namespace}", f"namespace {namespace}") if namespace else ("", "all namespaces")
    found = len(api(f"/apis/relevo.dev/v1alpha1{where}/rollouts?limit=500")["items"])
    return f"the Rollouts of {shown} can be listed, there are {found}"


def well(operator: str) -> str:
    """That the operator says it is well and what it measures, as a sentence."""
    read(f"{operator}/healthz")
    lines = [line for line in read(f"{operator}/metrics").splitlines() if line.startswith("relevo_")]
    if not lines:
        raise ValueError(f"{operator}/metrics has no series that begins with relevo_")
    return f"the operator at {operator} is well and serves {len(lines)} series of its own"


def check(question, about: str) -> bool:
    """Ask until the deadline and print the answer; whether it was a good one."""
    ends = time.monotonic() + DEADLINE_SECONDS
    while True:
        try:
            print(f"ok: {question(about)}", flush=True)
        except (OSError, ValueError, KeyError) as error:
            if time.monotonic() > ends:
                body = error.read().decode(errors="replace")[:300] if isinstance(error, urllib.error.HTTPError) else ""
                print(f"FAILED: {question.__name__} {about}: {error} {body}".rstrip(), flush=True)
                return False
            time.sleep(0.5)
        else:
            return True


def main(arguments: list[str]) -> int:
    """Ask all questions, even after a bad answer."""
    operator, *namespaces = arguments
    results = [check(rollouts, namespace) for namespace in namespaces or [""]]
    return 0 if all([*results, check(well, operator)]) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
