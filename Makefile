# Each target sets up the environment that it needs, once: see requirements/install.
#   PYTHON=python3.12   the Python to set it up with; by default the first suitable one found
#   RUNTIME=tflite      serve with tflite-runtime instead of LiteRT (Python 3.11): docs/delegates.md
#   HOST=http://...     load this service, instead of starting one
#   ARGS="..."          more arguments for the program that the target runs

ENVIRONMENT_litert := .venv-serve
ENVIRONMENT_tflite := .venv-tflite
RUNTIME := litert
SERVE := $(or $(ENVIRONMENT_$(RUNTIME)),$(error RUNTIME is $(RUNTIME), but it should be litert or tflite))
DEV := .venv/bin/python
# HOST from the command line only: some shells set a variable of that name.
TYPED_HOST := $(if $(filter command,$(origin HOST)),$(HOST))
TARGET = $(if $(TYPED_HOST),--host $(TYPED_HOST),--python $(SERVE)/bin/python)
COMPILE = $(DEV) -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-header --annotation-style line $(ARGS)
CONTAINERS = $(or $(shell command -v docker || command -v podman),$(error neither docker nor podman was found))
VERSION = $(shell sed -n 's/^VERSION = "\(.*\)"/\1/p' service/__init__.py)

.PHONY: help serve test bench compare loadtest capacity fleet build image sbom lint format lock clean
.PHONY: .venv .venv-serve .venv-tflite .venv-loadtest .venv-compare

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# exec: no shell between make and the service, so that signals reach it.
serve: $(SERVE) ## serve models/imagenet-1k on http://127.0.0.1:8000 (EDGEWISE_* settings change that)
	@exec $(SERVE)/bin/python -m service $(ARGS)

test: .venv ## run the tests, in two processes (ARGS="-n 0 tests/api": some of them, in one)
	@$(DEV) -m pytest --numprocesses 2 $(ARGS)

bench: .venv ## compare the service with a bare loop doing the same work, in 4 minutes
	@$(DEV) -m tests.bench $(ARGS)

compare: .venv-compare ## compare LiteRT with other engines: make compare ARGS="CALIBRATION EVALUATION"
	@.venv-compare/bin/python -m tests.bench.engines $(ARGS)

loadtest: .venv-loadtest $(if $(TYPED_HOST),,$(SERVE)) ## load the service, or HOST=http://..., and check it against goals
	@exec .venv-loadtest/bin/python -m loadtest $(TARGET) $(ARGS)

capacity: .venv-loadtest $(if $(TYPED_HOST),,$(SERVE)) ## find the highest rate within the goals, for fp32, ptq and qat
	@exec .venv-loadtest/bin/python -m loadtest capacity $(TARGET) $(ARGS)

fleet: .venv .venv-loadtest ## load nodes behind thin links, each with a fault, as root, in 2 minutes
	@$(DEV) -m tests.fleet $(ARGS)

build: .venv ## run the build stage: make build ARGS="all --help"
	@$(DEV) -m build $(ARGS)

image: ## build the container image edgewise:VERSION for this machine, with docker or podman
	@BUILDAH_FORMAT=docker $(CONTAINERS) build --tag edgewise:$(VERSION) --build-arg VERSION=$(VERSION) \
		--build-arg REVISION=$(shell git rev-parse HEAD 2>/dev/null) $(ARGS) .

sbom: ## print the bill of materials of the image edgewise:VERSION, as CycloneDX JSON
	@$(CONTAINERS) run --rm --pull=never --entrypoint python3 $(ARGS) edgewise:$(VERSION) \
		-c 'print(open("/app/sbom.json").read())'

lint: .venv ## check style, types and Dockerfiles
	@$(DEV) -m ruff check
	@$(DEV) -m ruff format --check
	@$(DEV) -m mypy
	@.venv/bin/hadolint Dockerfile k8s/loadtest/Dockerfile

format: .venv ## format the code, and fix what can be fixed automatically
	@$(DEV) -m ruff check --fix
	@$(DEV) -m ruff format

# Each is constrained by the pins of an earlier one, so that what is tested is what is served.
lock: .venv ## compile requirements/*.in to hashed pins; make lock ARGS=--upgrade takes newer versions
	$(COMPILE) --output-file requirements/serve.txt requirements/serve.in
	$(COMPILE) --output-file requirements/build.txt --constraint requirements/serve.txt requirements/build.in
	$(COMPILE) --output-file requirements/dev.txt --constraint requirements/build.txt requirements/dev.in
	$(COMPILE) --output-file requirements/loadtest.txt --constraint requirements/dev.txt requirements/loadtest.in
	sed '/^numpy==/,/# via/d' requirements/serve.txt | \
		$(COMPILE) --output-file requirements/tflite.txt --constraint /dev/stdin requirements/tflite.in
	sed '/^numpy==/,/# via/d' requirements/build.txt | \
		$(COMPILE) --output-file requirements/compare.txt --constraint /dev/stdin requirements/compare.in

clean: ## remove the environments and caches (runs/ and models/ stay)
	rm -rf .venv .venv-serve .venv-tflite .venv-loadtest .venv-compare .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# TensorFlow has wheels for Python 3.13 at most.
.venv:
	@requirements/install $@ requirements/dev.txt 13 "includes TensorFlow: a few minutes"

.venv-serve:
	@requirements/install $@ requirements/serve.txt 14 "about a minute"

# tflite-runtime has wheels for Python 3.11 at most.
.venv-tflite:
	@requirements/install $@ requirements/tflite.txt 11 "about a minute"

.venv-loadtest:
	@requirements/install $@ requirements/loadtest.txt 14 "about a minute"

# It includes TensorFlow too.
.venv-compare:
	@requirements/install $@ requirements/compare.txt 13 "includes TensorFlow: a few minutes"
