# All targets need Python 3.11 or later, make and access to PyPI. The help of a target names what else it needs.
PYTHON ?= python3
MODEL ?= training/models/house_prices.py
ARTIFACT ?= artifact
IMAGE ?= bakehouse
# Which tests `make test` runs, and how; `make check` runs all of them, and measures what they cover.
SELECTION ?= -m "not slow"
CLUSTER ?= tests/e2e/cluster
SCENARIOS ?= tests/e2e
# The model version. The default is the commit.
TAG ?= $(shell git describe --always --dirty --abbrev=12 --exclude='*' 2>/dev/null || echo dev)
REVISION := $(shell git describe --always --dirty --abbrev=40 --exclude='*' 2>/dev/null)
BIN := .venv/bin
LOCKED := install --quiet --disable-pip-version-check --require-hashes
BUILD_ARGUMENTS = --build-arg MODEL=$(MODEL) --build-arg MODEL_VERSION=$(TAG) --build-arg REVISION=$(REVISION) \
	$(addprefix --build-arg SOURCE_DATE_EPOCH=,$(shell git log -1 --format=%ct 2>/dev/null))
# --no-strip-extras, because pip searches for coverage[toml] if the lock file pins only coverage.
COMPILE := $(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-strip-extras \
	--no-header --no-annotate

.DEFAULT_GOAL := help
.PHONY: help install train serve image test test-image e2e bench format lint types check lock docs site manifests clean

help: ## Show this help
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: .venv/installed ## Build .venv from the lock file

.venv/installed: requirements/dev.txt
	@echo "Building .venv from requirements/dev.txt, about a minute"
	$(PYTHON) -m venv .venv
	$(BIN)/pip $(LOCKED) -r requirements/dev.txt
	@touch $@

# In a separate environment, because checkov pins older versions of packages that the tests need.
.venv-checkov/installed: requirements/checkov.txt
	$(PYTHON) -m venv .venv-checkov
	.venv-checkov/bin/pip $(LOCKED) -r requirements/checkov.txt
	@touch $@

train: install ## Train MODEL and bake it into ARTIFACT
	$(BIN)/python -m training bake $(MODEL) --output $(ARTIFACT)

serve: train ## Train, bake and serve MODEL on port 8080
	BAKEHOUSE_ARTIFACT=$(ARTIFACT) BAKEHOUSE_HOST=$${BAKEHOUSE_HOST:-127.0.0.1} exec $(BIN)/python -m service

image: ## Build the image IMAGE:TAG: train and bake MODEL; TAG is the model version
	docker build $(BUILD_ARGUMENTS) --target train --tag $(IMAGE)-train:$(TAG) .
	docker build $(BUILD_ARGUMENTS) --tag $(IMAGE):$(TAG) \
		$$(docker run --rm $(IMAGE)-train:$(TAG) inspect artifact --labels | sed 's/^/--label /') .
	@echo "Built $(IMAGE):$(TAG)"

test: install ## Run the tests that need no engine and no cluster; make check runs the slow ones too
	$(BIN)/pytest --numprocesses 2 --dist worksteal $(SELECTION)

test-image: install ## Test the image and the setup on one server; needs a container engine and 4 minutes
	$(BIN)/pytest tests/image --capture=no --durations=10

e2e: install ## Test releases and rollouts on a temporary cluster; needs an engine, wrk, CLUSTER's tools and 25 minutes
	CLUSTER=$(CLUSTER) $(BIN)/pytest $(SCENARIOS) --capture=no --durations=10

bench: install ## Measure the cost of predictions and write docs/explanation/performance.md; needs wrk and 10 minutes
	$(BIN)/python -m tools.bench

format: install ## Format the code and apply the fixes of the linter
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: install ## Check format, style, spelling, imports and workflows
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/codespell
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yaml
	$(BIN)/lint-imports
	$(BIN)/zizmor --offline --quiet .github/workflows

types: install ## Check types
	$(BIN)/mypy

check: lint types .venv-checkov/installed ## Run the same checks as CI
	$(MAKE) test SELECTION="--cov --cov-report=term-missing"

lock: install ## Update the lock files to the newest versions that pyproject.toml allows
	$(COMPILE) --upgrade pyproject.toml $(addprefix --extra ,frames training engines converters tracing dev) -o requirements/dev.txt
	$(COMPILE) --upgrade pyproject.toml --extra training -c requirements/dev.txt -o requirements/training.txt
	$(COMPILE) --upgrade pyproject.toml --extra training --extra engines --extra converters -c requirements/dev.txt \
		-o requirements/training-engines.txt
	$(COMPILE) --upgrade pyproject.toml --extra frames -c requirements/dev.txt -o requirements/serving-frames.txt
	$(COMPILE) --upgrade pyproject.toml --extra frames --extra engines -c requirements/dev.txt \
		-o requirements/serving-engines.txt
	$(COMPILE) --upgrade pyproject.toml --extra frames --extra tracing -c requirements/dev.txt \
		-o requirements/serving-tracing.txt
	$(COMPILE) --upgrade pyproject.toml -c requirements/dev.txt -o requirements/serving.txt
	$(COMPILE) --upgrade --group checkov -o requirements/checkov.txt

docs: install ## Write docs/reference (settings, metrics, chart values), the chart's README and schema, and the dashboards
	$(BIN)/python -m tools.settings
	$(BIN)/python -m tools.metrics
	$(BIN)/python -m tools.packages
	$(BIN)/python -m tools.chart
	$(BIN)/python -m tools.chart_page
	$(BIN)/python -m tools.dashboards

site: install ## Build the documentation as a website in site/; fail on dead links
	$(BIN)/zensical build --strict

manifests: install ## Render k8s/bakehouse.yaml from the chart and k8s/values.yaml
	$(BIN)/python -m tools.manifests

clean: ## Remove the files that the other targets created
	rm -rf .venv .venv-checkov $(ARTIFACT) site .cache .mypy_cache .pytest_cache .ruff_cache .coverage .coverage.* .hypothesis
