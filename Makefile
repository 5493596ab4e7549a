# Two commands do everything on a fresh Debian or Ubuntu machine:  make demo   and   make test.  `make` alone lists all.
SHELL := /bin/bash
VENV := .venv
PY := $(VENV)/bin/python
SUDO := $(shell [ "$$(id -u)" = 0 ] || { command -v sudo >/dev/null && echo "sudo -n"; })
# `make check` needs GL for pyvista without a display. The demo needs ParaView and a virtual display, too; the tests
# also xwd to photograph it and chromium for the web page.
BASICS := python3-venv libegl1 libgl1 libxrender1
PARAVIEW := paraview python3-paraview python3-h5py xvfb xauth openmpi-bin libqt5svg5
PACKAGES := $(BASICS) $(PARAVIEW) x11-apps procps chromium
.DEFAULT_GOAL := help

.PHONY: help demo test check install lint format clean bench
help:  ## this list
	@sed -nE 's/^([a-z0-9-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

# Two workers; the files in the order of tests/conftest.py.
TWO := -n 2 --dist loadfile --no-loadscope-reorder

demo: system install  ## computes two surfaces on 2 ranks, converts them, draws Figure 1: two to four minutes on 2 cores
	$(VENV)/bin/paraloss demo -o runs/demo

test: system install lint  ## all tests, with ParaView and Chromium
	$(PY) -m pytest $(TWO)

check: install lint  ## lint, types, import rules and the fast tests; needs neither ParaView nor Chromium
	$(PY) -m pytest $(TWO) -m "not slow and not paraview" --ignore tests/own --ignore tests/faults

# One table of ratios; the peers live in an environment of their own, because they need older packages.
bench: install .peers/.installed  ## speed against the peers; REAL=final.pt adds a ResNet-56 on CIFAR-10
	$(PY) benchmarks/run.py --peers .peers/bin/python
	$(PY) benchmarks/queue_simulation.py
	$(if $(REAL),$(PY) benchmarks/real.py --weights $(REAL))

.peers/.installed: benchmarks/peers.py
	python3 -m venv .peers
	.peers/bin/pip install -q torch==2.13.0 loss-landscapes landscaper h5py filelock
	.peers/bin/pip install -q --no-deps .
	@touch $@

# What is there is used: the virtual environment, else python3 with torch, numpy, h5py, scikit-learn, filelock, mpi4py, pytest.
.PHONY: gpu
DEVICE := cuda
gpu: links  ## what one GPU does, in a report: at most 8 minutes; DEVICE=cpu tries the command itself at small sizes
	PYTHONPATH=build/links $(if $(wildcard $(PY)),$(PY),python3) benchmarks/gpu.py --device $(DEVICE)

# mypy keeps its results in .mypy_cache: 55 seconds the first time, one or two from then on.
lint: install links  ## ruff, mypy, import rules
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy -p paraloss
	PYTHONPATH=build/links $(VENV)/bin/lint-imports

format: install  ## let ruff rewrite what it can
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

install: $(VENV)/.installed  ## the virtual environment in .venv, with the package in editable mode

# Lenient editable mode: new files are seen at once, and tracebacks and breakpoints name the real files.
$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(VENV)/bin/pip install -q -c constraints.txt -e '.[dev]'
	@touch $@

# The package as one tree of links, for tools that read files instead of importing: mypy, pyright, import-linter.
LINKS := build/links/paraloss
.PHONY: links
links:
	@rm -rf $(LINKS) && mkdir -p $(LINKS)
	@ln -s $(foreach f,$(wildcard core/*),$(CURDIR)/$(f)) $(LINKS)/
	@ln -s $(foreach f,compute converters rendering paraview_plugin state_files,$(CURDIR)/$(f)) $(LINKS)/

$(VENV)/bin/python:
	@$(MAKE) -s debian DEBIAN="$(BASICS)"
	@[ -x $@ ] || python3 -m venv $(VENV)

# Every figure on real data, about 13 minutes on two cores.
.PHONY: gallery docs dist coverage
# Of what runs in the tests' own process; the commands that they start are not counted.
coverage: install  ## lines that the tests run
	$(PY) -m pytest $(TWO) -m "not paraview" --cov=paraloss --cov-report=term:skip-covered

gallery: install  ## every figure, about 13 minutes
	$(PY) docs/gallery/make.py

# Figure 1 of Li et al. 2018 on the data of the paper. Each command goes on where it was stopped.
.PHONY: figure1
figure1: system install  ## ResNet-56 with and without shortcuts on CIFAR-10: all figures and a table; hours on a CPU, or WITH="--samples 256"
	$(PY) docs/figure1.py $(WITH)

# The documentation as a web site in site/; warnings are errors.
docs: install  ## the site; warnings are errors
	$(VENV)/bin/mkdocs build --strict -q

# Known vulnerabilities of the pinned dependencies, where the advisory service can be reached.
.PHONY: audit
audit: .audit/bin/pip-audit  ## known vulnerabilities of the pinned dependencies; needs the network
	.audit/bin/pip-audit -r constraints.txt --no-deps --disable-pip

.audit/bin/pip-audit:
	python3 -m venv .audit && .audit/bin/pip install -q pip-audit

# Wheel and sdist, and a smoke test of both in empty environments.
dist: install  ## wheel and sdist, each installed into an empty environment and tested
	rm -rf dist && $(PY) -m build -q
	$(PY) deploy/smoke.py dist

# Debian packages, once; on a machine without root one line says what to install.
.PHONY: system debian
system:
	@$(MAKE) -s debian DEBIAN="$(PACKAGES)"

debian:
	@missing=; for p in $(DEBIAN); do dpkg -s $$p >/dev/null 2>&1 || missing="$$missing $$p"; done; \
	if [ -z "$$missing" ]; then :; \
	elif ! command -v apt-get >/dev/null; then echo "not a Debian system: install these yourself:$$missing"; \
	elif [ "$$(id -u)" = 0 ] || $(SUDO) true 2>/dev/null; then \
	  $(SUDO) apt-get update -q && \
	  $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $$missing; \
	else echo "no root here: ask for  apt-get install --no-install-recommends$$missing"; fi

clean:  ## removes all that make has made
	rm -rf $(VENV) .peers .audit build dist site *.egg-info runs gpu-report .pytest_cache .mypy_cache .ruff_cache

.PHONY: attack
attack: install  ## kills, damaged files, options, requests and traps, with a table: STAGES="damaged traps" for some; 40 minutes
	cd tests/faults && OMP_NUM_THREADS=1 PYTHONPATH=.. $(CURDIR)/$(PY) attack.py $(STAGES)

# Needs root: other Debian releases in folders of their own. OPTIONS="--only forky", "--fresh", "--drop".
.PHONY: paraview-versions
paraview-versions: install links  ## plugin tests and pictures with three ParaViews, and the table in docs/paraview.md; root, 4.6 GB
	PYTHONPATH=build/links $(PY) deploy/paraview_versions.py $(OPTIONS)

.PHONY: states
states: install  ## the ParaView states, from state_files/scene.py
	xvfb-run -a pvpython state_files/generate.py
