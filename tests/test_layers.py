"""Imports point one way. The rules are a table; the test reads every import statement with `ast`, also those inside functions."""
from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OURS = ("config", "engine", "portal", "relay", "worker", "tests", "bench")


@dataclass(frozen=True)
class Import:
    file: str
    line: int
    module: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.module}"


@dataclass(frozen=True)
class Layer:
    """Files under `part` may import, of ours, only modules beginning with one of `ours`; of others, the standard library and
    `others` (None: anything)."""

    part: str
    ours: tuple[str, ...]
    others: tuple[str, ...] | None = None


LAYERS = (
    Layer("config.py", (), ("dotenv",)),
    Layer("engine", ("engine", "config"), ("imapclient", "dns", "tqdm")),
    Layer("relay", ("relay", "config", "engine.wire", "engine.net", "engine.endpoint", "engine.errors", "engine.causes"), ()),
    Layer("portal", ("portal", "engine", "config")),
    Layer("portal/models", ("portal.models",), ("sqlalchemy",)),
    Layer("portal/services", ("portal.services", "portal.models", "portal.security", "portal.queueing", "portal.store.db", "engine",
                              "config"), ("sqlalchemy", "redis", "cryptography")),
    Layer("worker.py", ("portal.models", "portal.services", "portal.store", "portal.security", "portal.queueing", "engine", "config"),
          ("rq", "redis", "sqlalchemy")),
)
# Places where a looser rule of a folder above does not hold.
WEB_FRAMEWORK = ("flask", "flask_login", "flask_wtf", "wtforms", "werkzeug", "jinja2")


def imports(path: Path) -> Iterator[Import]:
    """Every imported module, relative ones made absolute; `from a import b` counts as `a.b` where b is a module of ours."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1] if path.name != "__init__.py" else path.relative_to(ROOT).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(str(path.relative_to(ROOT)), node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - (node.level - 1)] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield Import(str(path.relative_to(ROOT)), node.lineno, inner if is_module(inner) else base)


def is_module(name: str) -> bool:
    place = ROOT.joinpath(*name.split("."))
    return place.with_suffix(".py").exists() or (place / "__init__.py").exists()


def begins(module: str, allowed: tuple[str, ...]) -> bool:
    return any(module == name or module.startswith(name + ".") for name in allowed)


def files(part: str) -> list[Path]:
    place = ROOT / part
    return [place] if place.suffix == ".py" else sorted(place.rglob("*.py"))


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.part)
def test_a_layer_imports_only_what_it_may(layer: Layer) -> None:
    sources = files(layer.part)
    assert sources, f"{layer.part}: nothing there"
    wrong = []
    for found in (i for path in sources for i in imports(path)):
        top = found.module.split(".")[0]
        if top in OURS:
            allowed = begins(found.module, layer.ours) or found.module in layer.ours
        else:
            allowed = layer.others is None or top in sys.stdlib_module_names or begins(found.module, layer.others)
        if not allowed:
            wrong.append(str(found))
    assert wrong == []


def test_only_the_engines_command_line_draws_a_progress_bar() -> None:
    assert [str(i) for path in files("engine") for i in imports(path)
            if i.module.startswith("tqdm") and path.name != "printing.py"] == []


def test_the_demo_is_imported_by_the_command_line_only() -> None:
    outside = [path for path in files("portal") if "demo" not in path.relative_to(ROOT).parts]
    assert [str(i) for path in outside for i in imports(path) if begins(i.module, ("portal.demo",)) and path.name != "cli.py"] == []


def test_only_pages_know_the_web_framework() -> None:
    without = ("portal/models", "portal/services", "portal/store", "portal/migrations", "portal/demo", "engine", "relay")
    paths = [path for part in without for path in files(part)] + files("worker.py") + files("config.py")
    assert [str(i) for path in paths for i in imports(path) if begins(i.module, WEB_FRAMEWORK)] == []


def test_only_the_worker_opens_sealed_secrets() -> None:
    """The portal seals; a process that serves pages never holds what opens."""
    allowed = {"worker.py", "portal/security/vault.py"}
    naming = [path for part in ("portal", "engine", "relay", "worker.py", "config.py") for path in files(part)
              if any(isinstance(node, ast.ImportFrom) and any(alias.name == "Vault" for alias in node.names)
                     for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))))]
    assert {str(path.relative_to(ROOT)) for path in naming} <= allowed


@pytest.mark.parametrize(("start", "never"), [
    ("import engine.check, engine.verify, engine.providers.catalogue", ("flask", "sqlalchemy", "rq", "redis", "portal", "relay", "tqdm")),
    ("import engine.cli, engine.transfer.copier",  # a rerun that finds nothing new is mostly its start
     ("imapclient", "imaplib", "importlib.metadata", "importlib.resources", "logging", "email", "dns", "calendar", "asyncio")),
    ("import portal.models, portal.store.db", ("flask", "rq")),
    ("import relay.__main__", ("flask", "sqlalchemy", "rq", "redis", "portal", "imapclient")),
    ("import portal; portal.create_app", ("worker", "relay", "engine.transfer", "engine.imap.append", "portal.demo")),
])
def test_what_is_loaded_when_a_part_starts(start: str, never: tuple[str, ...]) -> None:
    """Names in a file are one thing; this is what a process really holds in memory."""
    code = f"{start}\nimport sys\nprint([m for m in sys.modules if any(m == n or m.startswith(n + '.') for n in {never!r})])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr[-2000:]
