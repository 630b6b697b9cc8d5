# make gpu-check GPUS=8: what only GPUs can show.
# make demo: environment, whole study, report.  make test: environment, default tests.  make faults: the fault suite.  See README.md.
.DEFAULT_GOAL := demo
SHELL := /bin/sh
VENV := .venv
STAMP := $(VENV)/.installed
DOCS_STAMP := $(VENV)/.installed-docs
UV := $(shell command -v uv 2>/dev/null)
ifndef PYTHON
PYTHON := $(shell for p in python3.11 python3.12 python3.13 python3 python; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1 && { echo $$p; break; }; done)
endif

export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export OMP_NUM_THREADS ?= 1
export MKL_NUM_THREADS ?= $(OMP_NUM_THREADS)
export TOKENIZERS_PARALLELISM := false
unexport PYTHONDONTWRITEBYTECODE PYTHONPATH PYTHONHOME VIRTUAL_ENV

.PHONY: demo setup test faults gpu-check lint docs docs-links weights check-study folds prune
demo: setup
	dvc repro
	@echo "The report: $$(twinsynth report)"

setup: $(STAMP)

# On all cores, one thread per worker; make test WORKERS=4 takes four workers, WORKERS=0 none.
WORKERS ?= auto
test: export OMP_NUM_THREADS = 1
test: export MKL_NUM_THREADS = 1
test: setup
	python -m pytest -n $(WORKERS)

# Kills stages, damages files, sends hostile input; the last line sums up what was tried and lost.
faults: setup
	@mkdir -p work && rm -f work/tally
	@TWINSYNTH_TALLY="$(CURDIR)/work/tally" python -m pytest -m faults tests/faults tests/hostile; \
	status=$$?; python -m tests.faults.tally work/tally; exit $$status

# On GPUs; prints a table and one JSON object. TOY=1 tries every line of it on a CPU, BATCH=6 is for GPUs of less than 80 GB.
GPUS ?= 1
gpu-check: setup
	python -m benchmarks.gpu_check --gpus $(GPUS) $(if $(BATCH),--batch $(BATCH)) $(if $(TOY),--toy)

lint: setup
	ruff check .
	ruff format --check .
	pyright

# The site, in docs/_build/html; a warning is an error. Only the first call needs a network, for the packages of the extra docs.
docs: $(DOCS_STAMP)
	$(VENV)/bin/python -m sphinx --fail-on-warning --keep-going --quiet -b html docs docs/_build/html
	@echo "The site: docs/_build/html/index.html"

# Whether the addresses outside this repository answer; needs a network.
docs-links: $(DOCS_STAMP)
	$(VENV)/bin/python -m sphinx --quiet -b linkcheck docs docs/_build/links

# Every extractor of scores; make weights STUDY=polyps: all that a study needs, its base too.
weights: setup
	twinsynth weights $(if $(STUDY),--study $(STUDY))

check-study: setup
	@twinsynth estimate --study $(or $(STUDY),demo)

# A cross-validation in one command: the named folds of a study, JOBS at a time, then the comparison over all of them.
# make folds STUDY=kvasir_pseudo FOLDS="0 2 3" JOBS=3
JOBS ?= 1
folds: setup
	@twinsynth study run-folds $(STUDY) $(FOLDS) --jobs $(JOBS)

prune:
	rm -rf work

$(DOCS_STAMP): $(STAMP)
ifneq ($(UV),)
	uv pip install --python $(VENV)/bin/python --quiet --no-build-isolation --editable '.[docs]'
else
	$(VENV)/bin/python -m pip install --disable-pip-version-check --quiet --no-build-isolation --editable '.[docs]'
endif
	@touch $@

$(STAMP): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11, 3.12 or 3.13 on the PATH; install one, or name it: make setup PYTHON=/its/path" >&2; exit 2; }
ifneq ($(UV),)
	test -x $(VENV)/bin/python || uv venv --quiet --python "$(PYTHON)" $(VENV)
	uv pip install --python $(VENV)/bin/python --require-hashes -r requirements.lock
	uv pip install --python $(VENV)/bin/python --quiet --no-deps --no-build-isolation --editable .
else
	test -x $(VENV)/bin/pip || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --disable-pip-version-check --require-hashes -r requirements.lock
	$(VENV)/bin/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation --editable .
endif
	@$(VENV)/bin/python -m compileall -q $(VENV)/lib >/dev/null 2>&1 || true
	@touch $@
