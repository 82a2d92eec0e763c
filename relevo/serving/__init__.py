"""The model server: KServe's own `ModelServer` around a verified model package. Started by `python -m relevo.serving`."""
