//go:build commands

// Package commands names the programs that are built from this module, so that `go mod tidy` keeps what they need.
package commands

import _ "go.etcd.io/etcd/server/v3"
