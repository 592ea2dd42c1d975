VENV := .venv
PY := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed

.PHONY: help run test lint format types check bench image up down clean

help: ## List the targets
	@sed -n 's/^\([a-z]*\):.*## /\1	/p' $(MAKEFILE_LIST)

$(INSTALLED): requirements.txt requirements-dev.txt
	python3 -m venv $(VENV)
	$(PY) -m pip install -q -r requirements-dev.txt
	touch $@

run: $(INSTALLED) ## Run the connector
	$(PY) run.py

test: $(INSTALLED) ## Run the tests
	$(PY) -m pytest

lint: $(INSTALLED) ## Check style
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

format: $(INSTALLED) ## Mend style
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

types: $(INSTALLED) ## Check types
	$(PY) -m mypy

check: lint types test ## Style, types, tests

bench: $(INSTALLED) ## Measure beside a bare server (benchmarks/README.md)
	$(PY) -m benchmarks

image: ## Build the Docker image
	docker build -t nsps-connector .

up: ## Start the container
	docker compose up -d --build

down: ## Stop the container; its volume stays
	docker compose down

clean: ## Remove what the tools left, the virtualenv included; not data/
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
