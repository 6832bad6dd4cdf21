"""What a command says when Python lacks a package that the project's virtual environment has: mostly it was not activated.

Must not: import anything but the standard library; hide a module of ours or of the standard library that is missing.
"""
from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

_OURS = Path(__file__).resolve().parent.parent


def run_or_name_package(run: Callable[[], int]) -> int:
    """The exit code of `run`; 1, and a sentence in each language, where a package is missing."""
    try:
        return run()
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        ours = (_OURS / name).is_dir() or (_OURS / f"{name}.py").exists()
        if not name or ours or name in sys.stdlib_module_names:
            raise
    print(f"这个 Python（{sys.executable}）没有 {name} 包：请先运行 . .venv/bin/activate；还没有 .venv 的，先运行 make .venv/.runtime。\n"
          f"This Python ({sys.executable}) lacks the package {name}: run . .venv/bin/activate first; where there is no .venv yet, "
          "make .venv/.runtime makes it.", file=sys.stderr)
    return 1
