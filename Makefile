# The doors of the project. Each target only calls the script that does it.
.PHONY: help cluster-up cluster-down test demo demo-down bench soak
.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

cluster-up: ## real Kubernetes and Kafka on this machine, as cluster "dev"; mends one that is there
	@e2e/testbed/testbed up dev

cluster-down: ## take cluster "dev" down without a trace
	@e2e/testbed/testbed down dev

test: ## everything, unit to end-to-end
	@e2e/test.sh

demo: ## install all, show Belfry on real input, leave it running
	@e2e/demo.sh

demo-down: ## remove what the demo made
	@e2e/demo-down.sh

bench: ## print the figures of docs/benchmarks.md
	@e2e/bench.sh

soak: ## the fault run: records, rate, minutes, seed, kills and rebalances are settable; ABUSE=1: one tenant's worst
	@e2e/soak.sh
