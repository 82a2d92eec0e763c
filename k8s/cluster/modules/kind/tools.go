//go:build tools

// What is built from this module; named here so that `go mod tidy` keeps its sums.
package tools

import _ "sigs.k8s.io/kind"
