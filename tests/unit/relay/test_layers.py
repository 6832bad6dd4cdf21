"""The relay is deployed alone: it imports nothing but the standard library, config and engine's wire-level modules."""
from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
ALLOWED = ("relay", "config", "engine.wire", "engine.net", "engine.endpoint", "engine.errors", "engine.causes")


def test_imports_stay_within_the_relays_layer() -> None:
    files = sorted((ROOT / "relay").rglob("*.py"))
    assert len(files) > 10
    for file in files:
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else \
                [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                known = name.partition(".")[0] in sys.stdlib_module_names or any(name == a or name.startswith(a + ".") for a in ALLOWED)
                assert known, f"{file.name} imports {name}"


def test_it_runs_with_the_documented_files_and_no_package_at_all(tmp_path: Path) -> None:
    """As on an egress host: -I -S leaves out site-packages, the copied folder is all there is of us."""
    shutil.copytree(ROOT / "relay", tmp_path / "relay")
    (tmp_path / "engine").mkdir()
    shutil.copytree(ROOT / "engine" / "net", tmp_path / "engine" / "net")
    for name in ("__init__.py", "endpoint.py", "errors.py", "causes.py", "causes.toml"):
        shutil.copy(ROOT / "engine" / name, tmp_path / "engine" / name)
    code = (f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from relay.__main__ import main; "
            "sys.exit(main(['token', 'worker-1', '--json']) or main(['check-config', '--config', 'missing.toml']))")
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2 and "missing.toml: -: " in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert "rt1.worker-1." in done.stdout
