# Two commands are all that a fresh machine needs: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed

.PHONY: demo test lint format lock bench bench-live fuzz docs clean

demo: $(STAMP)
	$(BIN)/python tools/demo.py

# The compiled engine is compiled once, before two workers would each do it.
test: $(STAMP) lint
	$(BIN)/emu warmup
	$(BIN)/pytest -n 2 --dist worksteal $(PYTEST_ARGS)

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Ten minutes at most; one row of it: make bench BENCH_ARGS='--only drops-mix'
# Beside it: tools/bench/billion.py (ten minutes), tools/bench/instructions.py (a test runs it; --update after a change).
bench: $(STAMP)
	$(BIN)/python tools/bench/line_rate.py $(BENCH_ARGS)

# Four minutes, as root: namespaces and interfaces are made, and removed.
bench-live: $(STAMP)
	$(BIN)/python tools/bench/live.py $(BENCH_ARGS)

# Hours of it: make fuzz FUZZ_SECONDS=14400
FUZZ_SECONDS ?= 3600
fuzz: $(STAMP)
	$(BIN)/python tests/fuzz/run.py --seconds $(FUZZ_SECONDS)

docs: $(STAMP)
	$(BIN)/python tools/docs.py
	$(BIN)/python tools/walkthrough.py
	$(BIN)/python tools/docs.py --runs

# Versions and hashes for every supported Python, no index address.
lock:
	uv pip compile pyproject.toml --universal --python-version 3.11 --all-extras --group dev \
	  --generate-hashes --no-emit-index-url --no-emit-find-links --no-header -o requirements.lock

$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv || { echo "make: $(PYTHON) cannot make a virtual environment; install its venv module (Debian: apt install python3-venv)" >&2; exit 1; }
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	touch $@

clean:
	rm -rf .venv .mypy_cache .ruff_cache .hypothesis demo
