# Everything needs only Python >= 3.11, make and a package index; VENV is made when missing. Another
# Python stands beside it: `make test PYTHON=python3.13 VENV=.venv-3.13`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=

.PHONY: demo test test-defaults faults drift-drill check bench format lock schemas fault-rows clean

demo: $(VENV)/ready
	@$(BIN)/python -m stack demo $(ARGS)

# In two processes, a file at a time: most tests wait for servers.
test: $(VENV)/ready
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile $(ARGS)

# The same with databases that give every session LATIN1, German dates, the time of Kathmandu and
# serializable transactions. SHORT=1 runs what reads and writes most of them: two minutes, as in CI.
SHORT_OF_DEFAULTS := $(addprefix tests/integration/,postgres/test_sessions.py \
	postgres/test_migrate.py write/test_plain_sql.py retention/test_create_ahead.py \
	retention/test_retention.py operations/test_command_line.py consumers/test_dead_letters.py)
test-defaults: $(VENV)/ready
	TEST_DATABASE_DEFAULTS=odd $(BIN)/python -m pytest --numprocesses 2 --dist loadfile \
		$(if $(SHORT),$(SHORT_OF_DEFAULTS)) $(ARGS)

# Interleavings, kill -9 at failpoints, planted bugs, every fault that docs/faults.md names, and every
# question of the bench; some twenty-five minutes. It ends with its seeds: SEED=n repeats what they drew; LONG=1 takes hours.
faults: $(VENV)/ready
	FAULTS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile \
		tests/faults tests/acceptance/test_bench.py $(ARGS)

# Breaks both stores in known ways while writers go on, checks and repairs them: 100,000 keys.
drift-drill: $(VENV)/ready
	@$(BIN)/python -m stack drift-drill $(ARGS)

check: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m schemas --check
	$(BIN)/python scripts/fault_rows.py --check
	$(BIN)/python scripts/house.py --check

bench: $(VENV)/ready
	@$(BIN)/python -m bench $(ARGS)

format: $(VENV)/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Writes one JSON Schema a message type and version to schemas/json.
schemas: $(VENV)/ready
	$(BIN)/python -m schemas

# Writes which test provokes which fault to docs/faults.md; `check` compares.
fault-rows: $(VENV)/ready
	@$(BIN)/python scripts/fault_rows.py

# Pins every dependency with its hashes; names no index.
lock: $(VENV)/ready
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --all-extras \
		--no-header --upgrade pyproject.toml --output-file requirements.lock

$(VENV)/ready: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $(VENV)/ready

clean:
	rm -rf $(VENV) build *.egg-info
