"""What `helm test` runs inside the cluster: send one V2 request and check the answer.

Arguments: the base URL, the model's name, the row as JSON (empty: ones) and the class expected (empty: any). With --tag COLOUR the
request carries Knative's header that pins it to that colour; with --revision TEXT the answer's revision must contain it. An API key in
the environment variable RELEVO_KEY goes along. Standard library only.
"""

import argparse
import json
import os
import sys
import time
import urllib.error
import urllib.request

DEADLINE_SECONDS = 90.0


def ask(url: str, body: dict | None = None, headers: dict[str, str] | None = None) -> tuple[dict, dict[str, str]]:
    """The JSON of a 2xx answer and its headers in lower case; raises OSError otherwise."""
    data = json.dumps(body).encode() if body is not None else None
    own = {"content-type": "application/json"}
    if os.environ.get("RELEVO_KEY"):
        own["x-api-key"] = os.environ["RELEVO_KEY"].strip()
    request = urllib.request.Request(url, data=data, headers={**own, **(headers or {})})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer), {name.lower(): value for name, value in answer.headers.items()}


def check(options: argparse.Namespace) -> str:
    """Ask once; a sentence on what came back.

    Raises:
        OSError: no answer, or one that is no 2xx.
        ValueError: an answer that is not what it should be.
    """
    headers = {"Knative-Serving-Tag": options.tag} if options.tag else {}
    about, _ = ask(f"{options.url}/v2/models/{options.model}", headers=headers)
    (tensor,) = about["inputs"]
    features = tensor["shape"][1]
    row = json.loads(options.row) or [1.0] * features
    if len(row) != features:
        raise ValueError(f"the model takes {features} features, test.row has {len(row)}")
    inputs = [{"name": tensor["name"], "datatype": tensor["datatype"], "shape": [1, features], "data": row}]
    answer, seen = ask(f"{options.url}/v2/models/{options.model}/infer", {"inputs": inputs}, headers)
    if answer["model_name"] != options.model:
        raise ValueError(f"the answer is of model {answer['model_name']!r}, not {options.model!r}")
    (predicted,) = next(output["data"] for output in answer["outputs"] if output["name"] == "predict")
    if options.expected and str(predicted) != options.expected:
        raise ValueError(f"the prediction is {predicted!r}, expected {options.expected!r}")
    revision = seen.get("x-relevo-revision", "")
    if options.revision not in revision:
        raise ValueError(f"revision {revision!r} answered, not one of {options.revision!r}")
    return f"{options.url} answers {predicted!r} for {row}, by revision {revision or '(unnamed)'}"


def main(arguments: list[str]) -> int:
    """Try until the deadline."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("model")
    parser.add_argument("row")
    parser.add_argument("expected")
    parser.add_argument("--tag", default="")
    parser.add_argument("--revision", default="")
    options = parser.parse_args(arguments)
    ends = time.monotonic() + DEADLINE_SECONDS
    while True:
        try:
            print(f"ok: {check(options)}", flush=True)
        except (OSError, ValueError, KeyError, StopIteration) as error:
            if time.monotonic() > ends:
                body = error.read().decode(errors="replace")[:300] if isinstance(error, urllib.error.HTTPError) else ""
                print(f"FAILED: {options.url}: {error} {body}".rstrip(), flush=True)
                return 1
            time.sleep(0.5)
        else:
            return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
