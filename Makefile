# The doors of the project. Each target only calls the script that does it.
.PHONY: help check unit crds e2e test cluster-up cluster-down demo demo-down bench soak
.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

check: ## before each commit: formatting, lints, licenses, all tests that need neither root nor a cluster
	@BELFRY_TESTS=check e2e/test.sh

unit: ## those tests alone
	@BELFRY_TESTS=unit e2e/test.sh

crds: ## write anew what is made from the code: crds/yaml, docs/fields.md, snapshots
	@e2e/generate.sh

e2e: ## TEST=name: the end-to-end tests of that name, on cluster "dev", which is brought up if needed, brought up to date, and stays
	@e2e/one.sh "$(TEST)"

test: ## everything, unit to end-to-end
	@e2e/test.sh

cluster-up: ## real Kubernetes and Kafka on this machine, as cluster "dev"; mends one that is there
	@e2e/testbed/testbed up dev

cluster-down: ## take cluster "dev" down without a trace
	@e2e/testbed/testbed down dev

demo: ## install all, show Belfry on real input, leave it running
	@e2e/demo.sh

demo-down: ## remove what the demo made
	@e2e/demo-down.sh

bench: ## print the figures of docs/benchmarks.md
	@e2e/bench.sh

soak: ## the fault run: records, rate, minutes, seed, kills and rebalances are settable; ABUSE=1: one tenant's worst
	@e2e/soak.sh
