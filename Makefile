# Two commands do everything on a fresh Debian or Ubuntu machine:  make demo   and   make test
SHELL := /bin/bash
VENV := .venv
PY := $(VENV)/bin/python
SUDO := $(shell [ "$$(id -u)" = 0 ] || { command -v sudo >/dev/null && echo "sudo -n"; })
# ParaView, a virtual display and xwd to photograph it; GL for pyvista without a display; chromium for the web page's tests.
PACKAGES := python3-venv paraview python3-paraview python3-h5py xvfb xauth openmpi-bin x11-apps libqt5svg5 procps libegl1 libgl1 libxrender1 chromium

.PHONY: demo test check install system lint clean bench

demo: install
	$(VENV)/bin/paraloss demo -o runs/demo

test: install lint
	$(PY) -m pytest -n 2 --dist loadfile

check: install lint
	$(PY) -m pytest -n 2 --dist loadfile -m "not slow and not paraview"

# One table of ratios; the peers live in an environment of their own, because they need older packages.
bench: install .peers/.installed
	$(PY) benchmarks/run.py --peers .peers/bin/python
	$(PY) benchmarks/queue_simulation.py

.peers/.installed: benchmarks/peers.py
	python3 -m venv .peers
	.peers/bin/pip install -q torch==2.13.0 loss-landscapes landscaper h5py filelock
	.peers/bin/pip install -q --no-deps .
	@touch $@

lint: install links
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy -p paraloss
	PYTHONPATH=build/links $(VENV)/bin/lint-imports

install: $(VENV)/.installed

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

$(VENV)/bin/python: system
	@[ -x $@ ] || python3 -m venv $(VENV)

# Every figure on real data, about 13 minutes on two cores.
.PHONY: gallery docs dist coverage
# Of what runs in the tests' own process; the commands that they start are not counted.
coverage: install
	$(PY) -m pytest -n 2 --dist loadfile -m "not paraview" --cov=paraloss --cov-report=term:skip-covered

gallery: install
	$(PY) docs/gallery/make.py

# The documentation as a web site in site/; warnings are errors.
docs: install
	$(VENV)/bin/mkdocs build --strict -q

# Known vulnerabilities of the pinned dependencies, where the advisory service can be reached.
.PHONY: audit
audit: .audit/bin/pip-audit
	.audit/bin/pip-audit -r constraints.txt --no-deps --disable-pip

.audit/bin/pip-audit:
	python3 -m venv .audit && .audit/bin/pip install -q pip-audit

# Wheel and sdist, and a smoke test of both in empty environments.
dist: install
	rm -rf dist && $(PY) -m build -q
	$(PY) deploy/smoke.py dist

# Debian packages, once; on a machine without root one line says what to install.
system:
	@missing=; for p in $(PACKAGES); do dpkg -s $$p >/dev/null 2>&1 || missing="$$missing $$p"; done; \
	if [ -z "$$missing" ]; then :; \
	elif ! command -v apt-get >/dev/null; then echo "not a Debian system: install these yourself:$$missing"; \
	elif [ "$$(id -u)" = 0 ] || $(SUDO) true 2>/dev/null; then \
	  $(SUDO) apt-get update -q && \
	  $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $$missing; \
	else echo "no root here: ask for  apt-get install --no-install-recommends$$missing"; fi

clean:
	rm -rf $(VENV) .peers .audit build dist site *.egg-info runs .pytest_cache .mypy_cache .ruff_cache

.PHONY: states
# The ParaView states anew, from state_files/scene.py.
states: install
	xvfb-run -a pvpython state_files/generate.py
