# Two commands: `make run` does the main job, `make test` proves that all of it works.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: setup run test lab refresh lint

setup: $(READY)

# Made anew only when the lock or the project's metadata change.
$(READY): requirements-lock.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-lock.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(READY)

run: setup
	$(BIN)/kie-course run 00 06 07 --profile cpu

# Two processes, one thread each: more threads than cores wait for one another. Files
# are dealt in alphabetical order, so that the longest do not come last.
test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations 15

lab: setup
	$(BIN)/jupyter lab notebooks

refresh: setup
	$(BIN)/kie-course refresh

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
