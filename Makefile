VENV := .venv
PY := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
TOOLS := .venv-tools
TOOLS_INSTALLED := $(TOOLS)/.installed
LOCK := $(TOOLS)/bin/uv pip compile -q --universal --generate-hashes --custom-compile-command "make lock" $(UPGRADE)

.PHONY: help run test lint format types check lock audit sbom dist hooks bench base image up down clean

help: ## List the targets
	@sed -n 's/^\([a-z]*\):.*## /\1	/p' $(MAKEFILE_LIST)

$(INSTALLED): requirements-dev.txt
	python3 -m venv $(VENV)
	$(VENV)/bin/pip install -q -r requirements-dev.txt
	touch $@

$(TOOLS_INSTALLED): requirements-tools.txt
	python3 -m venv $(TOOLS)
	$(TOOLS)/bin/pip install -q -r requirements-tools.txt
	touch $@

run: $(INSTALLED) ## Run the connector
	$(PY) run.py

test: $(INSTALLED) ## Run the tests
	$(PY) -m pytest -n auto --dist loadgroup

lint: $(INSTALLED) ## Check style
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

format: $(INSTALLED) ## Correct style
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

types: $(INSTALLED) ## Check types
	$(PY) -m mypy

check: lint types test ## Style, types, tests: what .ci/run does

lock: $(TOOLS_INSTALLED) ## Pin what pyproject.toml asks for, with hashes (UPGRADE=--upgrade takes the newest)
	$(LOCK) pyproject.toml -o requirements.txt
	$(LOCK) pyproject.toml --group dev -c requirements.txt -o requirements-dev.txt
	$(LOCK) --group tools -c requirements-dev.txt -o requirements-tools.txt

audit: $(TOOLS_INSTALLED) ## Look for known vulnerabilities in what is pinned (asks the network)
	$(TOOLS)/bin/pip-audit --strict --disable-pip -r requirements.txt
	$(TOOLS)/bin/pip-audit --strict --disable-pip -r requirements-dev.txt

sbom: $(TOOLS_INSTALLED) ## Write dist/sbom.json: what the connector consists of (CycloneDX)
	mkdir -p dist
	$(TOOLS)/bin/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible -o dist/sbom.json requirements.txt

dist: $(TOOLS_INSTALLED) ## Build dist/*.whl and dist/*.tar.gz (asks the network)
	$(TOOLS)/bin/python -m build

hooks: $(INSTALLED) $(TOOLS_INSTALLED) ## Let git check style and types at each commit
	$(TOOLS)/bin/pre-commit install

bench: $(INSTALLED) ## Measure beside a bare server (benchmarks/README.md)
	$(PY) -m benchmarks

base: ## Name the newest image of Python in the Dockerfile by its digest (asks the registry)
	digest=$$(docker buildx imagetools inspect python:3.13-slim --format '{{.Manifest.Digest}}') && test -n "$$digest" && \
	sed -i.before "s|python:3.13-slim@sha256:[0-9a-f]*|python:3.13-slim@$$digest|" Dockerfile && rm Dockerfile.before

image: ## Build the Docker image
	docker build -t nsps-connector .

up: ## Start the container
	docker compose up -d --build

down: ## Stop the container; its volume stays
	docker compose down

clean: ## Remove what the tools left, the virtualenvs included; not data/
	rm -rf $(VENV) $(TOOLS) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
