//go:build tools

// What is built from this module; named here so that `go mod tidy` keeps its sums.
package tools

import _ "github.com/prometheus/prometheus/cmd/prometheus"
