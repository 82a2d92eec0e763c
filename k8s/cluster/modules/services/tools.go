//go:build tools

// What is built from this module; named here so that `go mod tidy` keeps its sums.
package tools

import (
	_ "knative.dev/net-kourier/cmd/kourier"
	_ "knative.dev/serving/cmd/activator"
	_ "knative.dev/serving/cmd/autoscaler"
	_ "knative.dev/serving/cmd/controller"
	_ "knative.dev/serving/cmd/queue"
	_ "knative.dev/serving/cmd/webhook"
)
