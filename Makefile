# One command each. `make help` lists them; `make demo` and `make test` prepare everything they need themselves.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help install demo e2e-demo e2e-virtual run testbed testbed-binary record-aci verdicts brief-job faults-aci test test-fast lint types simulate conformance faults test-ha test-crash test-faults-api bench bench-cluster policies chart-schema lock
help: ## This list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  %-15s %s\n", $$1, $$2}'

install: $(STAMP) ## Create .venv with the pinned, hash-checked dependencies and this package

$(STAMP): requirements/dev.txt examples/requirements.txt pyproject.toml scripts/make-venv
	@PYTHON="$(PYTHON)" scripts/make-venv $(VENV)
	@echo "Installing pinned dependencies into $(VENV) (about a minute, once)"
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-warn-conflicts --no-deps --require-hashes -r examples/requirements.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-warn-conflicts --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(STAMP) ## A burst of real work on this machine, from an empty folder to a verdict (ITEMS= SEED= BUDGET_USD= SUBNET= OUTPUT=)
	@$(BIN)/dispatcher demo $(if $(ITEMS),--items $(ITEMS)) $(if $(SEED),--seed $(SEED)) \
	    $(if $(BUDGET_USD),--budget-usd $(BUDGET_USD)) $(if $(SUBNET),--subnet $(SUBNET)) --output $(or $(OUTPUT),demo-output)

e2e-demo: testbed-binary ## The demo's burst through a real control plane: real Jobs, a service account, the same judge (PLACEMENT=virtual ITEMS= SEED= OUTPUT=)
	@$(BIN)/python -m tests.e2e.cluster_demo $(if $(PLACEMENT),--placement $(PLACEMENT)) $(if $(ITEMS),--items $(ITEMS)) $(if $(SEED),--seed $(SEED)) \
	    --output $(or $(OUTPUT),e2e-demo-output)

e2e-virtual: testbed-binary ## 600 items through the real connector of the virtual node, judged by what ACI's side counts; 15 minutes (WHICH=burst|wide|quota READER=1 ITEMS= SEED= OUTPUT=)
	@$(BIN)/python -m tests.virtual $(or $(WHICH),burst) $(if $(READER),--reader) $(if $(ITEMS),--items $(ITEMS)) \
	    $(if $(SEED),--seed $(SEED)) --output $(or $(OUTPUT),e2e-virtual-output)

run: $(STAMP) ## The dispatcher on this machine, with its own broker, until Ctrl-C
	@$(BIN)/dispatcher run --local

testbed: $(STAMP) ## A real Kubernetes control plane on loopback, with nodes that KWOK plays, until Ctrl-C (needs Go)
	@$(BIN)/python -m testbed

testbed-binary: $(STAMP) ## Its binaries (control plane, virtual node, Helm), built once a machine; some minutes each
	@$(BIN)/python -m testbed build >/dev/null

record-aci: $(STAMP) testbed-binary ## Record anew what the real connector makes of every fault of ACI (tests/fixtures/aci)
	@RECORD_ACI=1 $(BIN)/pytest -q tests/integration/virtual/test_recorded_statuses.py

verdicts: testbed-binary ## Each of 48 pod templates on the real connector, beside its verdicts; three minutes (TEMPLATE= WRITE=1)
	@$(BIN)/python -m tests.verdicts $(if $(TEMPLATE),--template $(TEMPLATE)) $(if $(WRITE),--write)

brief-job: testbed-binary ## The Job that goes around as an example, refused, and the same work as a task, done; five minutes (WRITE=1)
	@$(BIN)/python -m tests.e2e.brief_job $(if $(WRITE),--write)

faults-aci: testbed-binary ## Every fault of ACI during a burst, on the real connector; ten minutes (FAULT="no capacity" ITEMS= JOBS=3 WRITE=1)
	@$(BIN)/python -m tests.aci_faults $(if $(FAULT),--fault "$(FAULT)") $(if $(ITEMS),--items $(ITEMS)) \
	    $(if $(JOBS),--jobs $(JOBS)) $(if $(WRITE),--write)

test: $(STAMP) lint types testbed-binary ## Everything: lint, types, all tests, branch coverage of the core
	@$(BIN)/pytest -n 2 --dist worksteal --cov --cov-branch --cov-report=term

test-fast: $(STAMP) ## The pure parts: core, laws, messages, settings, command line; half a minute
	@$(BIN)/pytest -n 2 -q tests/unit tests/property --ignore tests/unit/embedded --ignore tests/unit/examples

lint: $(STAMP) ## Style and import directions
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(STAMP) ## Strict type checks
	@$(BIN)/mypy
	@$(BIN)/mypy --strict examples bench testbed scripts/chart_schema.py

simulate: $(STAMP) ## The production code under seeded faults, the laws checked after each step (SEEDS=500)
	@$(BIN)/python -m dispatcher.simulator --seeds $(or $(SEEDS),500)

conformance: $(STAMP) ## The SDK's own queue tests, unmodified, against the embedded broker; eight minutes of mostly sleeping
	@$(BIN)/python -m tests.conformance

faults: $(STAMP) ## Every fault of the broker against the queue's adapter during a burst; 15 minutes (FAULT= ITEMS= FIRED= WRITE=1)
	@$(BIN)/python -m tests.faults $(if $(FAULT),--fault $(FAULT)) $(if $(ITEMS),--items $(ITEMS)) \
	    $(if $(FIRED),--fired $(FIRED)) $(if $(WRITE),--write)

test-ha: testbed-binary ## kill -9 the leader of two replicas in bursts, and time until the other acts; six minutes (KILLS=5 WRITE=1)
	@$(BIN)/python -m tests.ha $(if $(KILLS),--kills $(KILLS)) $(if $(WRITE),--write)

test-crash: testbed-binary ## kill -9 after and before every write to the API server in turn; half an hour (STEP= JOBS= WRITE=1)
	@$(BIN)/python -m tests.crash $(if $(STEP),--step $(STEP)) $(if $(JOBS),--jobs $(JOBS)) $(if $(WRITE),--write)

test-faults-api: testbed-binary ## Bursts through an API server that fails in all ways, drawn from seeds (SEEDS=100 JOBS= WRITE=1)
	@$(BIN)/python -m tests.crash --seeds $(or $(SEEDS),100) $(if $(JOBS),--jobs $(JOBS)) $(if $(WRITE),--write)

bench: $(STAMP) ## Figures, each with its conditions: the plan, the broker, the adapter, the reaction, volume, long jobs; 10 minutes
	@for name in plan broker adapter reaction volume long_jobs; do $(BIN)/python bench/$$name.py; done

bench-cluster: $(STAMP) testbed-binary ## The dispatcher beside a bare Job and beside one Job an item, on a real control plane; half an hour (PODS= ITEMS_PER_POD= ONLY="zero five" ROUNDS= WRITE=1)
	@$(BIN)/python bench/cluster.py $(if $(PODS),--pods $(PODS)) $(if $(ONLY),--only $(ONLY)) \
	    $(if $(ITEMS_PER_POD),--items-per-pod $(ITEMS_PER_POD)) $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(WRITE),--write)

policies: $(STAMP) ## The product beside the obvious rules, in money and waits, and beside an offline bound; ten minutes (SEED= WRITE=1)
	@$(BIN)/python bench/policies.py $(if $(SEED),--seed $(SEED)) $(if $(WRITE),--write)

chart-schema: $(STAMP) ## The schema of the chart's values anew, after a setting was added or changed
	@$(BIN)/python scripts/chart_schema.py

# Extras are pinned too: where a lock has only the bare name, pip asks for the newest release first and finds no hash.
lock: ## Pin the dependencies anew, with hashes (needs uv)
	uv pip compile pyproject.toml --extra demo --group dev --no-strip-extras --generate-hashes --no-header --python-version 3.11 -o requirements/dev.txt
	uv pip compile pyproject.toml --constraint requirements/dev.txt --no-strip-extras --generate-hashes --no-header --python-version 3.11 -o requirements/runtime.txt
	echo hatchling | uv pip compile - --constraint requirements/dev.txt --no-strip-extras --generate-hashes --no-header --python-version 3.11 -o requirements/build.txt
