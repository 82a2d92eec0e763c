//go:build tools

// What is built from this module; named here so that `go mod tidy` keeps its sums. Prometheus is here because it shares KServe's Kubernetes
// client, which is then compiled once.
package tools

import (
	_ "github.com/kserve/kserve/cmd/manager"
	_ "github.com/prometheus/prometheus/cmd/prometheus"
)
