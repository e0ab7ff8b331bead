# Everything a newcomer needs: `make demo` and `make test` do all their own set-up in .venv.
#
#   make demo     the bundled portrait -> build/demo/astronaut.{avatar,mp4,png}
#   make test     lint, type check and the whole test suite
#   make install  headsplat in .venv, ready for `.venv/bin/headsplat`
#   make learn    the same with PyTorch, for `headsplat train` and the methods LAM, GAGAvatar and GaussianHead
#   make clean    forget what was built (the .venv stays)
#
# Needs Python 3.11 or 3.12 with the venv module, and a C++ compiler. No GPU is needed; if one is present, the
# CUDA build of PyTorch is installed for the tests. Variables that may be set on the command line:
#
#   PYTHON=python3.12   which interpreter makes .venv
#   TORCH_CPU_INDEX=URL where PyTorch's CPU wheels are (on Linux, PyPI's own carry CUDA: 2 GB for nothing)

PYTHON ?= $(shell for p in python3.11 python3.12 python3 python; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && echo $$p && break; done)
TORCH ?= torch==2.13.0
TORCH_CPU_INDEX ?= https://download.pytorch.org/whl/cpu
DEMO := build/demo

VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --quiet --quiet --disable-pip-version-check
KERNEL := $(wildcard CMakeLists.txt) $(shell find src -name '*.cpp' -o -name '*.h' -o -name '*.hpp' 2>/dev/null)

.PHONY: demo test install learn lint clean
.DELETE_ON_ERROR:

demo: $(VENV)/.installed
	@$(VENV)/bin/headsplat demo --out $(DEMO)

install: $(VENV)/.installed

learn: $(VENV)/.torch $(VENV)/.installed-learn

test: lint
	@$(PY) -m pytest

lint: $(VENV)/.torch $(VENV)/.installed-test
	@$(PY) -m ruff check --quiet .
	@$(PY) -m ruff format --quiet --check .
	@$(PY) -m pyright --pythonpath $(PY)

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "headsplat needs Python 3.11 or 3.12; install one, or name it: make PYTHON=/path/to/python3.12"; exit 1; }
	@echo "Making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV) || { echo "$(PYTHON) cannot make a virtual environment; on Debian and Ubuntu: apt install python3-venv"; exit 1; }

# One editable install, so that the kernel is compiled once; the tests' also serves the demo.
$(VENV)/.installed: EXTRAS := create,web
$(VENV)/.installed-test: EXTRAS := create,web,test
$(VENV)/.installed-learn: EXTRAS := create,web,train
$(VENV)/.installed $(VENV)/.installed-test $(VENV)/.installed-learn: pyproject.toml $(KERNEL) | $(VENV)/bin/python
	@command -v $${CXX:-c++} >/dev/null || command -v g++ >/dev/null || { echo "A C++ compiler is needed for the renderer; on Debian and Ubuntu: apt install g++"; exit 1; }
	@$(PY) -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' || { echo "Python's headers are needed for the renderer; on Debian and Ubuntu: apt install python3-dev"; exit 1; }
	@echo "Installing headsplat and what it needs (the first time takes a minute or two)"
	@$(PIP) --editable '.[$(EXTRAS)]'
	@touch $@ $(VENV)/.installed

# The CPU build where there is no NVIDIA GPU: from the indexes pip already knows, else from PyTorch's own, else
# (an older mirror, macOS) whatever the plain name gives.
$(VENV)/.torch: Makefile | $(VENV)/bin/python
	@echo "Installing PyTorch (for tests and training; making and playing avatars does not need it)"
	@if nvidia-smi >/dev/null 2>&1; then $(PIP) $(TORCH); else \
		$(PIP) $(TORCH)+cpu 2>/dev/null \
		|| $(PIP) $(TORCH)+cpu --retries 1 --timeout 10 --extra-index-url $(TORCH_CPU_INDEX) 2>/dev/null \
		|| $(PIP) $(TORCH); fi
	@touch $@

clean:
	rm -rf build .pytest_cache .ruff_cache
