"""Kubernetes: `cluster` sets a development cluster up; `samples` and `monitoring` are manifests."""
