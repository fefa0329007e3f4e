# One file to run everything. Needs make and Python 3.11 or newer; the environment in .venv is made from the hashed lock.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Images of containers set it; then each process of the tests compiles every module again.
unexport PYTHONDONTWRITEBYTECODE

# Say `make test TESTS=tests/packaging/test_settings.py` for a part.
TESTS ?=
WHOLE ?=
KILLS ?= 500
# Kills while Discord and the providers also give odd answers: enough for more than 500 of those.
ODD_KILLS ?= 100
JOBS ?=
MORE ?=
# More than most machines have processors: many tests wait for a clock.
PROCESSES ?= 6
# Money is where a wrong branch costs a dollar, so there every branch is taken.
MONEY := bot/domain/money/quota.py,bot/store/tables/money/ledger.py,bot/store/tables/money/balances.py,bot/store/tables/money/adjustments.py
MONEY_TESTS := tests/store/test_direct_account.py tests/store/test_ledger.py tests/store/test_jobs.py tests/store/test_operator_costs.py tests/store/test_wallets.py tests/store/test_refunds.py tests/store/test_channel_caps.py tests/domain/test_quota.py -k "not postgresql"

.DEFAULT_GOAL := help
.PHONY: help demo run test coverage screenshots bench bench-full torture lint types format languages audit lock clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(INSTALLED) ## the whole bot in a browser page, with a simulated Discord and simulated providers
	@$(BIN)/python -m sandbox.demo

run: $(INSTALLED) ## the bot on Discord, settings from .env
	@$(BIN)/python -m bot

test: $(INSTALLED) ## the whole test suite
	$(BIN)/python -m pytest --numprocesses $(PROCESSES) --dist worksteal $(TESTS)

coverage: $(INSTALLED) ## every branch of the money code is taken by its own tests; WHOLE=1 for all of bot/ and cogs/
ifeq ($(WHOLE),)
	$(BIN)/python -m pytest --quiet --numprocesses $(PROCESSES) --cov --cov-report= $(MONEY_TESTS)
else
	$(BIN)/python -m pytest --numprocesses $(PROCESSES) --cov --cov-report=
	$(BIN)/python -m coverage report --fail-under=95
endif
	$(BIN)/python -m coverage report --include='$(MONEY)' --fail-under=100

screenshots: $(INSTALLED) ## the pictures in the README, taken from the demo; needs Chromium
	@$(BIN)/python -m sandbox.screenshots

torture: $(INSTALLED) ## kill the bot KILLS times (500 unless told, JOBS bounds the orders), at every statement, and among odd answers
	$(BIN)/python -m pytest --numprocesses 2 -m torture
	$(BIN)/python -m benchmarks.torture --kills $(KILLS) $(if $(JOBS),--commands $(JOBS)) --json build/torture.json
	$(BIN)/python -m benchmarks.torture --odd --kills $(ODD_KILLS) $(if $(JOBS),--commands $(JOBS)) --json build/torture-odd.json

bench: $(INSTALLED) ## what members and the operator feel, measured in under five minutes
	@$(BIN)/python -m benchmarks

bench-full: $(INSTALLED) ## every measurement in benchmarks/, five times: more than an hour
	@$(BIN)/python -m benchmarks --full

lint: $(INSTALLED) ## ruff, import-linter, hadolint, shellcheck, schemas of compose and workflow files
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-cache
	@if [ -x $(BIN)/hadolint ]; then set -x; $(BIN)/hadolint Dockerfile; fi
	@if [ -x $(BIN)/shellcheck ]; then set -x; $(BIN)/shellcheck .ci/run; fi
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec compose.yaml compose.cluster.yaml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml

types: $(INSTALLED) ## pyright
	$(BIN)/pyright

format: $(INSTALLED) ## put the source into shape
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

languages: $(INSTALLED) ## renew the catalogues in cogs/text/locales after words changed; says what is missing
	@PYTHONPATH=. $(BIN)/python .ci/languages.py

audit: $(INSTALLED) ## known vulnerabilities in the lock: 'Error 1' means found, 'Error 3' means could not ask
	@$(BIN)/python .ci/audit.py requirements-dev.lock

LOCK := $(BIN)/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes \
	--no-annotate --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"
lock: $(INSTALLED) ## renew requirements.lock and requirements-dev.lock
	$(LOCK) --upgrade --output-file requirements.lock
	$(LOCK) --upgrade --extra dev --constraints requirements.lock --output-file requirements-dev.lock
	@! grep -nE '://|^-' requirements.lock requirements-dev.lock || { echo 'The lock names an address: see the lines above.'; exit 1; }

clean: ## remove what was made, except data/ and .env
	rm -rf $(VENV) build htmlcov .coverage .coverage.* .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): requirements-dev.lock
	@command -v $(PYTHON) >/dev/null || { echo "There is no '$(PYTHON)' here. Install Python 3.11 or newer, or say which to use: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "'$(PYTHON)' is older than Python 3.11. Say which to use: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "'$(PYTHON)' cannot make environments. On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	@echo "Making the environment in $(VENV) (a minute, only when the lock changed) …"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --require-hashes --no-deps --requirement requirements-dev.lock
	@touch $@
