"""`make cluster`: a development cluster with Knative Serving, Kourier, KServe, Prometheus and relevo's operator.

`up` is the way through. Where images and manifests come from is the only thing that `IMAGES=` changes: `published` takes them from
registries, `source` builds them from Go modules, Debian packages and PyPI wheels. Everything after that is the same.
"""
