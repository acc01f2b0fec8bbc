# make demo: set up and see all of it.   make test: set up, lint and test.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
CONVERTER := $(VENV)/converters/.ready
IN_TWO := -n 2 --dist loadfile --no-loadscope-reorder
# The set-up compiles nothing. Where the environment forbids to keep what is compiled at import, each
# of the many processes of the tests would compile torch anew, which takes longer than its import.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help demo test coverage lint format test-backbones test-long export-matrix test-triton \
	test-packaging test-minimum test-newest dist docs docs-serve lock clean

help:
	@echo "make demo            set up and run the whole path on generated pictures"
	@echo "make test            set up, lint, type-check and run the tests"
	@echo "make coverage        the tests, with the lines that they reach"
	@echo "make test-backbones  the charter's large backbones: build, train, export, compare"
	@echo "make test-long       what is too long for each change: more formats, guides, interruptions"
	@echo "make export-matrix   all of them in all formats: writes docs/export-matrix.md, takes hours"
	@echo "make test-triton     a real Triton server on an exported model: REPOSITORY=exported/triton"
	@echo "make test-packaging  the wheel in a clean environment, plain and with each extra: EXTRAS='grpc heic'"
	@echo "make test-minimum    tests with the oldest versions that pyproject.toml allows"
	@echo "make test-newest     tests with the newest versions that there are"
	@echo "make dist            what a release uploads: sdist and wheel in dist/, built and checked"
	@echo "make lint            format check, lint, types, layers"
	@echo "make format          format the code"
	@echo "make docs            the documentation as a site, in site/; needs no network"
	@echo "make docs-serve      the same at http://127.0.0.1:8001, renewed as you write"
	@echo "make lock            write the installed versions to constraints.txt"
	@echo "make clean           remove the environment and generated files"

# One virtual environment, everything resolved in one go, so that torch, torchvision and timm fit
# together; `taxon doctor` fails the set-up when they do not import.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name one: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@# The pip that comes with Python 3.11 takes a minute longer to resolve all this.
	$(BIN)/python -m pip install --quiet --upgrade pip
	@# Compiled when first imported: most of torch never is.
	$(BIN)/python -m pip install --quiet --no-compile --upgrade-strategy only-if-needed \
		--constraint constraints.txt --editable '.[dev]'
	@# Ultralytics brings the OpenCV with windows, which needs libGL; the one without goes on top.
	$(BIN)/python -m pip install --quiet --force-reinstall --no-deps \
		--constraint constraints.txt opencv-python-headless
	@# The types of KServe's resources, by which tests check the manifests; not what KServe runs on.
	$(BIN)/python -m pip install --quiet --no-compile --no-deps --constraint constraints.txt kserve
	$(BIN)/taxon doctor
	@touch $@

# The converter of TFLite, which has an environment of its own; the tests find it there.
$(CONVERTER): $(READY)
	TAXON_CACHE=$(VENV) $(BIN)/python -m taxon.exporters.converter_environment
	@touch $@

demo: $(READY)
	$(BIN)/taxon demo --out demo --overwrite

# Two processes of one thread each: two of two threads would wait for each other. Files begin in the
# order of tests/conftest.py, long ones first, and not by how many tests they have.
test: $(READY)
	@# One waits for the disk while the other computes.
	@$(MAKE) --no-print-directory --jobs 2 lint $(CONVERTER)
	@scripts/install-browser
	@scripts/install-java
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(IN_TWO) --durations=15 -m "not slow"

# Measuring what lines are reached makes the run longer.
coverage: $(READY) $(CONVERTER)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(IN_TWO) --cov --cov-report=term -m "not slow"

test-backbones: $(READY)
	$(BIN)/python -m pytest -m slow tests/test_backbones.py --durations=0

# More families and formats, the guides on deployment, and runs that are stopped again and again.
test-long: $(READY) $(CONVERTER)
	$(BIN)/python -m pytest -m slow --ignore tests/test_backbones.py --durations=0

# What is done is kept in .matrix: a run that was stopped goes on.
export-matrix: $(READY)
	$(BIN)/python benchmarks/export_matrix.py --work .matrix

# Installs NVIDIA's server into an environment of its own; Linux on x86-64, some 60 MB.
test-triton: $(READY)
	$(BIN)/python scripts/try_triton.py $(or $(REPOSITORY),exported/triton)

# Strict: a link that leads nowhere fails. Material's notice of its successor is known (docs/adr/0029).
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

docs-serve: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve --dev-addr 127.0.0.1:8001

# Environments of their own, by uv, in .packaging and .versions; an hour for all extras on two cores.
test-packaging: $(READY)
	$(BIN)/python scripts/try_packaging.py $(EXTRAS)

test-minimum: $(READY)
	$(BIN)/python scripts/try_versions.py minimum

test-newest: $(READY)
	$(BIN)/python scripts/try_versions.py newest

# The sdist from the tree, the wheel from the sdist. Only what is committed may be released.
dist: $(READY)
	@test -z "$$(git status --porcelain)" || { echo "commit or remove first:"; git status --short; exit 1; }
	rm -rf dist
	$(BIN)/python -m build --outdir dist
	$(BIN)/python -m pytest -q tests/test_packaging.py
	cd dist && sha256sum * | tee SHA256SUMS

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --num-workers 2
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: $(READY)
	@{ echo "# Versions that are tested together; \`make\` installs with them. Newer ones are allowed by"; \
	   echo "# pyproject.toml. Refresh: make lock"; \
	   $(BIN)/python -m pip freeze --exclude-editable; } > constraints.txt

clean:
	rm -rf $(VENV) .matrix .packaging .versions demo runs dist build site .mypy_cache .ruff_cache \
		.pytest_cache .coverage
