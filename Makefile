# One command each; everything they make is in .venv/ and instance/ (and the demo's mail under /var/tmp, see `make clean-demo`).
.DEFAULT_GOAL := help
.PHONY: help demo demo-check run test bench fuzz mutants simulate lint lock clean-demo clean

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check --no-input

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

demo: $(VENV)/.runtime  ## 样例：两台真实的邮件服务器、三个人，一条命令 / everything with sample mail
	@$(PY) -m portal up --demo

demo-check: $(VENV)/.runtime  ## 同上，但自己走完全程并逐封核对 / the same without a person; exits 0 or 1
	@$(PY) -m portal demo-check

run: $(VENV)/.runtime  ## 在一台机器上真正使用 / for real work on one machine
	@$(PY) -m portal up

test: $(VENV)/.dev  ## 全部测试（Debian root 下会装好所需软件）/ every suite, after setting up what it needs
	@$(PY) -m tests.suites

bench: $(VENV)/.runtime  ## 与同类工具比速度（docs/bench.md）/ beside its peers; ARGS="--full" for everything
	@$(PY) -m bench run $(ARGS)

simulate: $(VENV)/.dev  # 更多的模拟：三千个种子 / three thousand seeds of the simulation
	@SIM_SEEDS=3000 $(PY) -m pytest -q -n 2 tests/unit/simulation

fuzz: $(VENV)/.dev  # 每个解析器各喂一阵乱码 / every parser, 20 s of octets nobody would send each
	@$(PY) -m tests.unit.fuzz

mutants: $(VENV)/.dev  # 改坏账本、配对、重试，看测试是否发觉 / do the tests notice a broken ledger, matcher, retry?
	@$(PY) -m tests.mutation

lint: $(VENV)/.dev  ## ruff, mypy
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

lock: $(VENV)/.dev  ## requirements*.in -> requirements*.txt
	$(VENV)/bin/uv pip compile $(LOCK) -o requirements.txt requirements.in
	$(VENV)/bin/uv pip compile $(LOCK) -o requirements-dev.txt requirements-dev.in

clean-demo: $(VENV)/.runtime  ## 忘掉样例的一切 / forgets everything the demo made
	@$(PY) -m portal clean-demo

clean:  ## removes the virtual environment and caches; keeps instance/
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .cache test-results
	find . -name __pycache__ -not -path './instance/*' -type d -exec rm -rf {} +

LOCK := --quiet --universal --generate-hashes --python-version 3.11 --no-emit-index-url --no-emit-find-links \
	--custom-compile-command "make lock"

# Debian's Python comes without venv; root gets it installed, everybody else is told.
NO_VENV = { rm -rf $(VENV); \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "apt-get install python3-venv …"; apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv >/dev/null 2>&1 && $(PYTHON) -m venv $(VENV); \
	else echo "This Python has no venv. Debian: sudo apt install python3-venv"; exit 1; fi; }

# The stamps are newer than what was installed from; so each environment is made once, and again when a lock file changes.
$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else "Banjia needs Python 3.11, 3.12 or 3.13; this is " + sys.version.split()[0] + ". Say which: make PYTHON=python3.12 …")'
	@$(PYTHON) -m venv $(VENV) >/dev/null 2>&1 || $(NO_VENV)
	@touch $@

# Our own modules are compiled as pip compiles the others: a rerun that finds nothing new is mostly a start.
$(VENV)/.runtime: requirements.txt | $(VENV)/.made
	@echo "正在安装依赖（只需一次）… Installing what is needed (once) …"
	@$(PIP) install --quiet --require-hashes -r requirements.txt
	@$(PY) -m compileall -q config.py engine portal relay worker.py
	@touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.runtime
	@$(PIP) install --quiet --require-hashes -r requirements.txt -r requirements-dev.txt
	@touch $@
