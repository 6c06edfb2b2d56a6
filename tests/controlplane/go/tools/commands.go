//go:build commands

// Package commands names the programs that are built from this module, so that `go mod tidy` keeps what they need.
package commands

import (
	_ "github.com/distribution/distribution/v3/cmd/registry"
	_ "github.com/google/go-containerregistry/cmd/crane"
	_ "helm.sh/helm/v3/cmd/helm"
)
