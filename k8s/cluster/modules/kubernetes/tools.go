//go:build tools

// What is built from this module besides ./node; named here so that `go mod tidy` keeps its sums.
package tools

import _ "k8s.io/kubernetes/cmd/kubectl"
