# One command each; everything they make is in .venv/ and instance/ (and the demo's mail under /var/tmp, see `make clean-demo`).
.DEFAULT_GOAL := help
.PHONY: help demo demo-check run test bench fuzz mutants simulate lint lock clean-demo clean

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check --no-input

help:  ## 列出这些命令 / list these commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

demo: $(VENV)/.runtime  ## 看样例：两台真实的邮件服务器、三个人的邮件 / try it: two real mail servers, the mail of three people
	@$(PY) -m portal up --demo

demo-check: $(VENV)/.runtime  ## 自己走完样例，逐封核对，退出码 0 或 1 / walk the demo, compare every message, exit 0 or 1
	@$(PY) -m portal demo-check

run: $(VENV)/.runtime  ## 在一台机器上真正使用 / do real work on one machine
	@$(PY) -m portal up

test: $(VENV)/.dev  ## 全部测试；Debian 上以 root 运行会先装好所需软件 / run every suite; on Debian as root, install what they need first
	@$(PY) -m tests.suites

bench: $(VENV)/.runtime  ## 和同类工具比速度，ARGS="--full" 全部都比 / measure it beside its peers, ARGS="--full" for everything
	@$(PY) -m bench run $(ARGS)

simulate: $(VENV)/.dev  # 更多的模拟：三千个种子 / run three thousand seeds of the simulation
	@SIM_SEEDS=3000 $(PY) -m pytest -q -n 2 tests/unit/simulation

fuzz: $(VENV)/.dev  # 给每个解析器各喂 20 秒乱码 / feed each parser 20 s of octets that nobody would send
	@$(PY) -m tests.unit.fuzz

mutants: $(VENV)/.dev  # 改坏账本、配对、重试，看测试是否发觉 / break ledger, matcher and retry, see whether the tests notice
	@$(PY) -m tests.mutation

lint: $(VENV)/.dev  ## 查代码：ruff、mypy / check the code: ruff, mypy
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

lock: $(VENV)/.dev  ## 按 requirements*.in 重写 requirements*.txt / write requirements*.txt anew from requirements*.in
	$(VENV)/bin/uv pip compile $(LOCK) -o requirements.txt requirements.in
	$(VENV)/bin/uv pip compile $(LOCK) -o requirements-dev.txt requirements-dev.in

clean-demo: $(VENV)/.runtime  ## 忘掉样例的一切 / forget everything the demo made
	@$(PY) -m portal clean-demo

clean:  ## 删去虚拟环境和缓存，留下 instance/ 的数据 / remove the virtual environment and caches, keep the data in instance/
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
