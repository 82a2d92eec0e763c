# Short verbs; each is one call of one tool. `make help` lists them.
MODEL    ?= iris
VERSION  ?= 2
SCENARIO ?= healthy
SHADOW   ?= on
STRATEGY ?= canary
PORT     ?= 8080
PLATFORM ?= kserve
N        ?= 20

VENV   := .venv
PYTHON := $(VENV)/bin/python
RELEVO := $(VENV)/bin/relevo
UV     := 0.13.8
READY  := $(VENV)/.ready
WHERE  := --platform $(PLATFORM) $(if $(CONTEXT),--context $(CONTEXT)) $(if $(NAMESPACE),--namespace $(NAMESPACE))

export CLUSTER IMAGES GATEWAY_PORT RELEVO_CACHE

.PHONY: help cluster cluster-down images docker demo demo-soak test e2e lint format model deploy-canary promote rollback status dashboard loadtest report bench switch deploy-blue-green docs clean
.DEFAULT_GOAL := help

help:  ## List the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): requirements.lock pyproject.toml
	python3 -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check uv==$(UV)
	$(VENV)/bin/uv pip sync --quiet --require-hashes --python $(PYTHON) requirements.lock
	$(VENV)/bin/uv pip install --quiet --no-deps --no-build-isolation --python $(PYTHON) --editable .
	@touch $@

cluster: $(READY)  ## Have a kind cluster with Knative, KServe, Prometheus and relevo's operator (IMAGES=source, CLUSTER=, GATEWAY_PORT=8090)
	$(PYTHON) -m k8s.cluster up

cluster-down: $(READY)  ## Delete the cluster
	$(PYTHON) -m k8s.cluster down

images: $(READY)  ## Build the images of the model server and the operator, and load them into the cluster
	$(PYTHON) -m k8s.cluster images

docker: $(READY)  ## Start Docker by hand, on a machine without systemd
	$(PYTHON) -m k8s.cluster docker

demo: $(READY)  ## Train two versions, roll the second out, print the verdict (SCENARIO=errors|slow|wrong|flaky-monitor, STRATEGY=blue-green, SHADOW=off, PORT=8081)
	$(PYTHON) -m scripts.demo $(SCENARIO) --strategy $(STRATEGY) --model $(MODEL) --shadow $(SHADOW) --port $(PORT)

demo-soak: $(READY)  ## Every scenario N times, and a table of the verdicts
	$(PYTHON) -m scripts.soak --runs $(N)

test: $(READY)  ## Run lint, types, layers and all tests that need no cluster
	$(PYTHON) -m scripts.check

e2e: $(READY)  ## Run the tests that need a cluster, on `make cluster`'s or on CONTEXT
	$(PYTHON) -m scripts.e2e

lint: $(READY)  ## Run ruff, mypy and import-linter
	$(PYTHON) -m scripts.check --lint-only

format: $(READY)  ## Format the code
	$(VENV)/bin/ruff format .

model: $(READY)  ## Train VERSION of MODEL into the local package store
	$(RELEVO) train $(MODEL) --version $(VERSION)

deploy-canary: $(READY)  ## Roll VERSION of MODEL out by canary on a cluster (CONTEXT=, NAMESPACE=, SCENARIO=errors|..., PLATFORM=local)
	$(PYTHON) -m scripts.canary $(SCENARIO) --model $(MODEL) --version $(VERSION) --shadow $(SHADOW) $(WHERE)

deploy-blue-green: $(READY)  ## Bring VERSION of MODEL to the idle colour and switch to it, on a cluster (CONTEXT=, NAMESPACE=, SCENARIO=errors|..., PLATFORM=local)
	$(PYTHON) -m scripts.canary $(SCENARIO) --strategy blue-green --model $(MODEL) --version $(VERSION) $(WHERE)

switch: $(READY)  ## Send all users of MODEL to the other colour now (TO=blue)
	$(RELEVO) switch $(MODEL) $(if $(TO),--to $(TO)) $(WHERE)

promote: $(READY)  ## Go on to the next step of MODEL's rollout now
	$(RELEVO) promote $(MODEL) $(WHERE)

rollback: $(READY)  ## Give all traffic back to the stable revision of MODEL
	$(RELEVO) rollback $(MODEL) $(WHERE)

status: $(READY)  ## Show where MODEL's rollout is
	$(RELEVO) status $(MODEL) $(WHERE)

dashboard: $(READY)  ## Open Locust's web UI of MODEL's rollout on this machine
	$(RELEVO) dashboard $(MODEL) $(WHERE)

loadtest: $(READY)  ## Send load to MODEL on this machine with Locust's dashboard open
	$(RELEVO) loadtest $(MODEL)

report: $(READY)  ## Write the report of MODEL's last rollout
	$(RELEVO) report $(MODEL) $(WHERE)

bench: $(READY)  ## Run the benchmarks and print their tables
	$(PYTHON) -m benchmarks

docs: $(READY)  ## Generate the reference pages
	$(PYTHON) -m scripts.reference

clean:  ## End what runs and remove what was made here
	-test -x $(RELEVO) && $(RELEVO) down
	rm -rf $(VENV) .relevo .hypothesis .mypy_cache .ruff_cache .import_linter_cache build dist
