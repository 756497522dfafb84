# Needs Rust, Go and make; `tests/rig/prerequisites` sees to the rest.
CARGO ?= cargo
RIG := $(CARGO) run --quiet --package pilotguard-rig --bin rig --

.DEFAULT_GOAL := help
.PHONY: help build demo bench lint test tools cluster cluster-down deny clean prerequisites

help: ## Show what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: prerequisites ## Build pilotguard
	$(CARGO) build

demo: prerequisites ## Watch the whole story on a real cluster, in about a minute (DEMO_FLAGS=--keep leaves it running, DEMO_FLAGS="--kubeconfig PATH" plays it on a cluster of yours)
	@$(CARGO) build --locked --package pilotguard --package pilotguard-demo
	@$(CARGO) run --quiet --locked --package pilotguard-demo -- demo $(DEMO_FLAGS)

bench: prerequisites ## Measure how fast it reacts and what admission costs (a release build, minutes the first time)
	@$(CARGO) build --locked --release --package pilotguard --package pilotguard-demo
	@$(CARGO) run --quiet --locked --release --package pilotguard-demo -- bench $(BENCH_FLAGS)

lint: prerequisites ## Check format, lints and documentation
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --document-private-items --locked

test: tools ## Run all tests, those on a real cluster included
	$(CARGO) test --workspace --locked --no-fail-fast

# Cluster and tools

tools: ## Build the cluster's programs that are missing from the cache (about 13 minutes the first time)
	@sh tests/rig/prerequisites tests
	@$(RIG) build

cluster: prerequisites ## Start a cluster in the background and print what to export
	@$(RIG) up --dir .cluster

cluster-down: prerequisites ## End the cluster in the background
	@$(RIG) down --dir .cluster

# Upkeep

deny: ## Check licences and sources of dependencies, if cargo-deny is installed
	@if $(CARGO) deny --version >/dev/null 2>&1; then $(CARGO) deny check; \
	else echo "cargo-deny is not installed: run 'cargo install --locked cargo-deny' to check licences and sources"; fi

clean: ## Remove what was built here; the shared cache of tools stays
	$(CARGO) clean

prerequisites:
	@sh tests/rig/prerequisites
