"""A scikit-learn model behind KServe's own server and helpers, as its documentation has users write one (its sklearnserver is not on PyPI).

Run by an interpreter that has `kserve` and scikit-learn, and nothing of relevo: `python serving_stock_kserve.py FILE PORT`.
"""

import sys

file, port = sys.argv[1:3]
sys.argv = [sys.argv[0], f"--http_port={port}", "--enable_grpc=false", "--enable_latency_logging=false"]

import joblib  # noqa: E402
from kserve import Model, ModelServer  # noqa: E402
from kserve.utils.utils import get_predict_input, get_predict_response  # noqa: E402


class SklearnModel(Model):  # type: ignore[misc]
    """A model from a joblib file."""

    def load(self):  # type: ignore[no-untyped-def]
        """Load it."""
        self._estimator = joblib.load(file)
        self.ready = True
        return self.ready

    def predict(self, payload, headers=None):  # type: ignore[no-untyped-def]
        """Predict."""
        return get_predict_response(payload, self._estimator.predict(get_predict_input(payload)), self.name)


if __name__ == "__main__":
    model = SklearnModel("model")
    model.load()  # type: ignore[no-untyped-call]
    ModelServer().start([model])
