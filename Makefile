# Each verb sets up the environment that it needs, once: see requirements/install.
#   PYTHON=python3.12   the Python to set it up with; without it the first one found that fits
#   ARGS="..."          more arguments for the program that the verb runs

SERVE := .venv-serve/bin/python
DEV := .venv/bin/python
COMPILE = $(DEV) -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-header --annotation-style line $(ARGS)

.PHONY: help serve test build lint format lock clean .venv .venv-serve

help: ## list the verbs
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# exec: no shell between make and the service, so that signals reach it.
serve: .venv-serve ## serve models/imagenet-1k on http://127.0.0.1:8000 (EDGEWISE_* settings change that)
	@exec $(SERVE) -m service $(ARGS)

test: .venv ## run the tests
	@$(DEV) -m pytest $(ARGS)

build: .venv ## run the build stage: make build ARGS="all --help"
	@$(DEV) -m build $(ARGS)

lint: .venv ## check style and types
	@$(DEV) -m ruff check
	@$(DEV) -m ruff format --check
	@$(DEV) -m mypy

format: .venv ## format the code, and repair what can be repaired
	@$(DEV) -m ruff check --fix
	@$(DEV) -m ruff format

# Each takes the pins of the one before, so that what is tested is what is served.
lock: .venv ## compile requirements/*.in to hashed pins: make lock ARGS=--upgrade takes newer versions
	$(COMPILE) --output-file requirements/serve.txt requirements/serve.in
	$(COMPILE) --output-file requirements/build.txt --constraint requirements/serve.txt requirements/build.in
	$(COMPILE) --output-file requirements/dev.txt --constraint requirements/build.txt requirements/dev.in

clean: ## remove the environments and caches (runs/ and models/ stay)
	rm -rf .venv .venv-serve .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# TensorFlow has wheels for Python 3.13 at most.
.venv:
	@requirements/install $@ requirements/dev.txt 13 "TensorFlow included: some minutes"

.venv-serve:
	@requirements/install $@ requirements/serve.txt 14 "about a minute"
