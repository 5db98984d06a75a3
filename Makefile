# The commands of the project. Each target only calls the script that does the work.
.PHONY: help check unit crds e2e test cluster-up cluster-down demo demo-down bench soak
.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

check: ## before each commit: formatting, lints, licenses, and all tests that need neither root nor a cluster
	@BELFRY_TESTS=check e2e/test.sh

unit: ## only the tests of `make check`
	@BELFRY_TESTS=unit e2e/test.sh

crds: ## write the files that are generated from the code: crds/yaml, docs/fields.md, snapshots
	@e2e/generate.sh

e2e: ## TEST=name: the end-to-end tests whose names contain name, on cluster "dev": started if needed, brought up to date, left running
	@e2e/one.sh "$(TEST)"

test: ## all tests, unit to end-to-end
	@e2e/test.sh

cluster-up: ## start real Kubernetes and Kafka on this machine, as cluster "dev", or repair the one that is there
	@e2e/testbed/testbed up dev

cluster-down: ## remove cluster "dev" without a trace
	@e2e/testbed/testbed down dev

demo: ## install everything, show Belfry on real input, leave it running; DATABASE=postgres HUBS=3 for three hubs
	@e2e/demo.sh

demo-down: ## remove everything that the demo made
	@e2e/demo-down.sh

bench: ## print the figures of docs/benchmarks.md
	@e2e/bench.sh

soak: ## the fault run, set by RECORDS, RATE, MINUTES, SEED, KILLS, REBALANCES, HUBS (3: over PostgreSQL); with ABUSE=1 the attacks of one tenant
	@e2e/soak.sh
