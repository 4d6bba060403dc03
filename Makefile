# make install, make demo, make test: each does all the set-up it needs, once. `make help` lists the rest.
# Python is the distribution's own, with its packages visible, because bcc is not on PyPI.

SYSTEM_PYTHON ?= /usr/bin/python3
KERNEL ?= 6.12
# kernels of `make test`; each takes half an hour or more under emulation, `make test-kernels` runs all
LAB ?= 7.2
# more options for pytest, e.g. ARGS='-k drop -x'
ARGS ?=
# PACKAGES=skip: the distribution's packages are there already, or come from elsewhere
PACKAGES ?= install

PYTHON := .venv/bin/python
PIP := -m pip --disable-pip-version-check install --quiet --retries 10 --timeout 60
PYTEST := $(PYTHON) -m pytest -p tests.lab.plugin $(ARGS)
INSTALLED := .venv/.installed
TEST_INSTALLED := .venv/.test-installed
ORACLE_INSTALLED := .venv-oracle/.installed
ORACLE := retis==1.7.0.post1
# registries hiccup: pip retries a connection, this retries all of it
, := ,
again = $(1) || { sleep 5; $(1); } || { sleep 20; $(1); }

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install test-install demo test test-unit test-native test-kernels test-kernel test-ovs-usdt bench check gen clean wheel deb man docs

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(INSTALLED) ## create .venv with the command .venv/bin/retis

test-install: $(TEST_INSTALLED) $(ORACLE_INSTALLED) ## set up what the tests need, too

demo: $(INSTALLED) ## show collect, sort and pcap on live traffic (in a VM where this kernel cannot be traced)
	@tests/lab/demo.sh

test: check ## run every test: here, and in the lab on the newest kernel (LAB=6.1,6.12,7.2: on all)
	$(PYTEST) --lab $(LAB)

test-unit: test-install ## run the tests that need neither root nor a special kernel
	$(PYTEST) --ignore tests/native --ignore tests/kernel

test-native: test-install ## run what this machine's own kernel can do
	$(PYTEST) tests/native

test-kernels: test-install ## run the kernel tests on all lab kernels
	$(PYTEST) --lab 6.1,6.12,7.2 tests/kernel

test-kernel: test-install ## run the kernel tests on one: KERNEL=6.12
	$(PYTEST) --lab $(KERNEL) tests/kernel

test-ovs-usdt: test-install ## follow upcalls through your own USDT build of Open vSwitch: OVS=/directory/of/its/programs
	@test -x "$(OVS)/ovs-vswitchd" || { echo 'error: OVS= must name the directory that has ovs-vswitchd' >&2; exit 2; }
	RETIS_PY_KERNEL_TESTS=1 RETIS_PY_OVS_USDT=$(OVS) $(PYTHON) -m pytest tests/kernel/test_ovs_user.py $(ARGS)

bench: test-install ## run the benchmarks
	$(PYTHON) -m tests.bench

check: test-install ## lint, and see that generated files are fresh
	$(PYTHON) -m ruff check retis_py tests packages docs setup.py
	$(PYTHON) -m mypy
	$(PYTHON) -c 'from retis_py.kernel.layouts import layouts_h as h; print(h(), end="")' | diff bpf/layouts.h - || \
		{ echo 'bpf/layouts.h is stale: run make gen'; exit 1; }
	NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --strict --quiet

gen: test-install ## write generated files again: bpf/layouts.h, docs/reference, what examples in the docs print
	$(PYTHON) -m retis_py.kernel.layouts
	$(PYTHON) -m docs.tools.reference
	$(PYTHON) -m docs.tools.examples

docs: test-install ## build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --strict --quiet

wheel: $(INSTALLED) ## build a wheel in dist/
	$(PYTHON) -m pip --disable-pip-version-check wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

deb: $(INSTALLED) ## build a Debian package in dist/
	$(PYTHON) -m packages.deb dist

man: $(INSTALLED) ## write man pages to build/man/
	$(PYTHON) -m packages.man build/man

clean: ## remove environments and caches of this directory (downloaded kernels stay)
	rm -rf .venv .venv-oracle .cache .pytest_cache .ruff_cache .hypothesis retis_py.egg-info build dist site
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml tests/lab/packages.sh
ifneq ($(PACKAGES),skip)
	tests/lab/packages.sh run
endif
	$(SYSTEM_PYTHON) -m venv --system-site-packages .venv
	$(call again,$(PYTHON) $(PIP) --editable .)
	@touch $@

$(TEST_INSTALLED): $(INSTALLED)
ifneq ($(PACKAGES),skip)
	tests/lab/packages.sh test
endif
	$(call again,$(PYTHON) $(PIP) --editable '.[test$(,)lab$(,)arrow$(,)pandas$(,)docs]')
	@touch $@

$(ORACLE_INSTALLED): $(INSTALLED)
	$(SYSTEM_PYTHON) -m venv .venv-oracle
	$(call again,.venv-oracle/bin/python $(PIP) '$(ORACLE)')
	@touch $@
