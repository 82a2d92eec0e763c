"""Blue/green on a cluster: two Helm releases of charts/model, and the Knative Route of charts/model-route that names both."""
