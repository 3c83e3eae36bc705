# Two commands for a new machine: make demo, make test. Each does all of its own set-up.

SHELL := /bin/bash
# The backend's environment of this checkout; the plugin in daily use has its own.
export MMEARTH_HOME ?= $(CURDIR)/build/home
# Older makes do not export to $(shell), hence the home is named.
BACKEND_PYTHON = $(shell python3 tools/install_backend.py --home '$(MMEARTH_HOME)' --python)

# One process of tests more than there are cores: some always wait for a child of theirs.
WORKERS ?= $(shell expr $$(env --unset=OMP_NUM_THREADS nproc) + 1)
# Folders of the plugin's tests; those that take longest come first.
PLUGIN_TESTS = gui link processing $(filter-out gui link processing,$(sort $(shell \
	cd tests/plugin && find . -name 'test_*.py' | cut -d/ -f2)))

.PHONY: demo test setup dev check package locks model benchmark clean

demo: setup
	@echo "== Mapping the sample scene in QGIS"
	python3 tools/run_in_qgis.py tools/demo.py build/demo

test: setup dev check
	@echo "== Tests of the backend"
	"$(BACKEND_PYTHON)" -m pytest tests/backend tests/qt6 --numprocesses $(WORKERS)
	@echo "== Tests of the plugin in QGIS, several folders at a time"
	$(MAKE) --jobs=$(WORKERS) --keep-going --output-sync=target $(PLUGIN_TESTS:%=in-qgis-%)
	python3 tools/run_in_qgis.py tests/run_pytest.py tests/lifecycle
	@echo "== End-to-end tests"
	"$(BACKEND_PYTHON)" -m pytest tests/e2e

# Most of their time goes by waiting for backends.
in-qgis-%:
	python3 tools/run_in_qgis.py tests/run_pytest.py tests/plugin/$*

setup:
	@echo "== Installing QGIS, if it is missing"
	@tools/install_qgis.sh
	@echo "== Installing the backend into $(MMEARTH_HOME), if it is missing"
	@python3 tools/install_backend.py

# What tests and checks need on top of the backend's own packages.
dev: setup
	@echo "== Installing test tools, if they are missing"
	@"$(BACKEND_PYTHON)" -m pip install --quiet --quiet --disable-pip-version-check --no-deps \
		--require-hashes --requirement backend/locks/dev.txt --requirement backend/locks/onnx.txt \
		--requirement backend/locks/tensorboard.txt

check: dev
	@echo "== Checks of style, types and security"
	"$(BACKEND_PYTHON)" -m ruff check .
	"$(BACKEND_PYTHON)" -m ruff format --check .
	"$(BACKEND_PYTHON)" -m mypy

package: dev
	"$(BACKEND_PYTHON)" tools/package.py

locks:
	python3 tools/lock.py

# MORE: what tools/label_tiles.py makes of DATA/s2 with the teacher, which has packages of its own.
model: dev
	"$(BACKEND_PYTHON)" tools/train_landcover.py --data $(DATA)/s2 --more $(MORE) --mixed

benchmark: dev
	"$(BACKEND_PYTHON)" -m benchmarks

clean:
	rm -rf build
