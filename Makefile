# Every target makes the environment it needs. Nothing outside this folder is changed, save that a missing
# python3-venv is installed when make runs as root on Debian.

PYTHON ?= python3
PYTEST_ARGS ?= -n auto --dist worksteal
LEUKO_DATA ?= ../shared/data
WEIGHTS ?=
SOURCES := $(shell find edge devices training quantization -type f ! -name '*.pyc' 2>/dev/null) pyproject.toml
PIP_FLAGS := --disable-pip-version-check --quiet
LOCK := uv pip compile pyproject.toml --universal --python-version 3.10 --generate-hashes --upgrade \
        --constraint locks/constraints.in --no-header --no-annotate --no-emit-index-url --no-emit-find-links --quiet

export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo test test-train lint format bench student results lock sbom audit clean

help:
	@echo 'make demo        count the built-in simulated slide: no camera, no network once installed'
	@echo 'make test        the tests, without a training framework'
	@echo 'make test-train  the tests marked "train" (installs TensorFlow)'
	@echo 'make lint        ruff and mypy --strict'
	@echo 'make format      let ruff put the code in form'
	@echo 'make bench       every figure of docs/measurements.md again (LEUKO_DATA=DIR)'
	@echo 'make results     every run of docs/results.md, and the judging (LEUKO_DATA=DIR WEIGHTS=FOLDER; many hours)'
	@echo 'make student     train, quantize and pack the shipped model again (LEUKO_DATA=DIR WEIGHTS=FILE)'
	@echo 'make lock        resolve locks/*.txt again (needs uv)'
	@echo 'make sbom        write the bill of materials of the device'"'"'s lock again'
	@echo 'make audit       known vulnerabilities of what the lock names (needs the network)'
	@echo 'make clean       remove what the other targets made'

# $(call environment,FOLDER,LOCK): a new virtual environment that holds exactly what the lock names.
define environment
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo 'Python 3.10 or newer is needed. Name it: make PYTHON=python3.11 $(MAKECMDGOALS)' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq </dev/null && \
	    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv </dev/null; } || \
	  { echo 'Python cannot make virtual environments here. Run: sudo apt-get install python3-venv' >&2; exit 1; }
	rm -rf $(1)
	$(PYTHON) -m venv $(1)
	$(1)/bin/python -m pip install $(PIP_FLAGS) --require-hashes --only-binary :all: -r $(2)
endef

.venv-demo/dependencies: locks/device.txt
	$(call environment,.venv-demo,$<)
	@# venv brings it on Python 3.11; nothing on a device builds packages.
	.venv-demo/bin/python -m pip uninstall $(PIP_FLAGS) --yes setuptools
	@touch $@

# A wheel, as a user gets it, so that a file missing from the package shows here. setuptools would pack deleted
# modules again from an old build folder.
.venv-demo/package: .venv-demo/dependencies $(SOURCES)
	rm -rf build
	.venv-demo/bin/python -m pip install $(PIP_FLAGS) --no-deps --force-reinstall .
	rm -rf build
	@touch $@

.venv-test/package: locks/dev.txt pyproject.toml
	$(call environment,.venv-test,$<)
	.venv-test/bin/python -m pip install $(PIP_FLAGS) --no-deps --editable .
	@touch $@

.venv-train/package: locks/train.txt pyproject.toml
	$(call environment,.venv-train,$<)
	.venv-train/bin/python -m pip install $(PIP_FLAGS) --no-deps --editable .
	@touch $@

demo: .venv-demo/package
	.venv-demo/bin/leuko demo

test: .venv-test/package
	.venv-test/bin/python -m pytest $(PYTEST_ARGS)

test-train: .venv-train/package
	.venv-train/bin/python -m pytest -m train $(PYTEST_ARGS)

lint: .venv-test/package
	.venv-test/bin/ruff check .
	.venv-test/bin/ruff format --check .
	.venv-test/bin/mypy --strict edge devices

format: .venv-test/package
	.venv-test/bin/ruff check --fix .
	.venv-test/bin/ruff format .

runs/peer.tflite: tests/bench/make_peer.py .venv-train/package
	@mkdir -p runs
	.venv-train/bin/python $< $@

bench: runs/peer.tflite .venv-test/package
	.venv-test/bin/python tests/bench/speed.py --peer runs/peer.tflite --markdown
	.venv-test/bin/python tests/bench/speed.py --peer runs/peer.tflite --by-field --markdown
	.venv-test/bin/python tests/bench/rendered.py
	.venv-test/bin/python tests/bench/locator.py --data $(LEUKO_DATA) --markdown
	.venv-test/bin/python tests/bench/accuracy.py --data $(LEUKO_DATA) --markdown

student: .venv-train/package
	.venv-train/bin/python -m training.make_student --data $(LEUKO_DATA) $(if $(WEIGHTS),--weights $(WEIGHTS)) \
	  --epochs 20 --steps 160 --out runs/student-0 --bundle edge/shipped/wbc-student --name wbc-student --version 0.4.0

results: .venv-train/package
	.venv-train/bin/python -m training.study --data $(LEUKO_DATA) --weights $(WEIGHTS) --out runs

# Each lock takes the versions of the one before it, so that what is tested is what is shipped.
sbom: .venv-test/package
	.venv-test/bin/python locks/sbom.py

# --strict: where no advisory service answers, every package is skipped, and that is no clean bill.
audit:
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/python -m pip install $(PIP_FLAGS) pip-audit
	.venv-audit/bin/pip-audit --strict --require-hashes --disable-pip -r locks/device.txt

lock:
	$(LOCK) --output-file locks/device.txt
	$(LOCK) --extra dev --constraint locks/device.txt --output-file locks/dev.txt
	$(LOCK) --extra dev --extra onnx --constraint locks/dev.txt --output-file locks/train.txt
	$(MAKE) sbom

clean:
	rm -rf .venv-demo .venv-test .venv-train .venv-audit build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
