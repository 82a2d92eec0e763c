//go:build tools

// What is built from this module; named here so that `go mod tidy` keeps its sums. They share Kubernetes' client, which is compiled once.
package tools

import (
	_ "helm.sh/helm/v3/cmd/helm"
	_ "knative.dev/net-kourier/cmd/kourier"
	_ "knative.dev/serving/cmd/activator"
	_ "knative.dev/serving/cmd/autoscaler"
	_ "knative.dev/serving/cmd/controller"
	_ "knative.dev/serving/cmd/queue"
	_ "knative.dev/serving/cmd/webhook"
)
