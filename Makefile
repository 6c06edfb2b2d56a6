# Every target says what it does: `make help`.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

CARGO ?= cargo
# Where cargo puts what it builds. Programs are built once with `--workspace` and then started from here: `cargo run`
# would choose other features for the dependencies and compile most of them again.
TARGET := $(or $(CARGO_TARGET_DIR),target)

.PHONY: help
help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build the product (needs no Go)
	$(CARGO) build

.PHONY: test
test: fmt-check lint programs tools ## Everything that must hold: format, lints, unit tests, tests on the real parts
	$(CARGO) test --workspace --no-fail-fast

.PHONY: fuzz
fuzz: ## Foreign bytes for every parser, FUZZ_SECONDS for each of the targets (60)
	FUZZ_SECONDS=$(or $(FUZZ_SECONDS),60) $(CARGO) test -p proto -p runtime -p broker -p syncer --lib --test fuzz --no-fail-fast -- fuzz_

.PHONY: guarantees
guarantees: ## Write the column of tests in docs/guarantees.md, and say what the page claims without a test
	$(CARGO) run --quiet -p guarantees

.PHONY: demo
demo: programs tools ## The whole path on this machine, shown step by step (KEEP=1 leaves it running)
	$(TARGET)/debug/demo $(if $(KEEP),--keep)

.PHONY: bench
bench: ## The benchmarks, each beside a baseline; figures in target/bench/results.jsonl
	$(CARGO) build --workspace --bins --profile bench-run
	$(TARGET)/bench-run/controlplane tools
	$(TARGET)/bench-run/loadtest

.PHONY: programs
programs:
	$(CARGO) build --workspace --bins

.PHONY: tools
tools: programs ## Find or build the control plane, the registry and their clients (once, with Go)
	$(TARGET)/debug/controlplane tools

.PHONY: fmt
fmt: ## Format the code
	$(CARGO) fmt --all

.PHONY: fmt-check
fmt-check: ## Check the format
	$(CARGO) fmt --all --check

.PHONY: lint
lint: ## Lints, warnings are errors
	$(CARGO) clippy --workspace --all-targets -- -D warnings

.PHONY: deny
deny: ## Licences, advisories, duplicate and banned crates (needs cargo-deny)
	$(CARGO) deny check

.PHONY: crds
crds: programs ## Write the CRDs of the chart from the Rust types
	$(TARGET)/debug/syncer crd > charts/acrpull-syncer/files/crds/acrpullbindings.yaml
