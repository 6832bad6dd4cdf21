"""What is promised in documents is there, and what is there is documented: settings, causes, providers, commands, dependencies, words."""
from __future__ import annotations

import ast
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from jinja2 import Environment, nodes

import config
from engine.causes import Cause, Who, explain
from engine.providers.catalogue import providers
from portal.processes import read_procfile
from tests.test_layers import OURS, files, imports

ROOT = Path(__file__).resolve().parent.parent
READMES = ("README.md", "README.en.md")
PRODUCT = ("config.py", "engine", "relay", "portal", "worker.py")
SEVEN = ("exmail", "qiye163", "coremail", "m263", "aliqiye", "gws", "exchange")
CHINESE = re.compile(r"[\u4e00-\u9fff]")


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


# --- settings, causes, providers ------------------------------------------------------------------------------------------


def test_the_document_of_settings_is_made_from_the_table() -> None:
    assert text("docs/settings.md") == config.document(), "run: python -m config > docs/settings.md"


@pytest.mark.parametrize("setting", config.SETTINGS, ids=lambda s: s.name)
def test_every_setting_says_what_it_means_in_both_languages(setting: config.Setting) -> None:
    assert CHINESE.search(setting.zh) and setting.en.endswith(".")


def test_no_code_reads_an_environment_variable_that_is_no_setting() -> None:
    known = {setting.name for setting in config.SETTINGS} | {"PATH", "XDG_STATE_HOME", "BANJIA_RELAY_TOKEN"}
    read = set()
    for path in (p for part in PRODUCT for p in files(part)):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            source = ast.unparse(node) if isinstance(node, ast.Call | ast.Subscript) else ""
            if found := re.match(r"os\.(?:environ\.get\(|environ\[|getenv\()'([A-Z_]+)'", source):
                read.add(found[1])
    assert read <= known


@pytest.mark.parametrize("cause", list(Cause))
def test_every_cause_has_words_a_next_step_and_somebody_who_takes_it(cause: Cause) -> None:
    told = explain(cause)
    for words in (told.title, told.meaning, told.next_step):
        assert CHINESE.search(words.zh) and words.en.strip(), cause
    assert told.who in Who


@pytest.mark.parametrize("key", SEVEN)
def test_the_seven_providers_have_hosts_and_checked_guidance(key: str) -> None:
    provider = providers()[key]
    assert provider.name.zh and provider.name.en
    assert provider.steps, "no guidance"
    for step in provider.steps:
        assert CHINESE.search(step.zh) and step.en and step.why.zh and step.why.en, step.id
        assert re.fullmatch(r"20\d\d-\d\d(-\d\d)?", step.checked), step.id
    if key not in ("coremail", "exchange"):  # each company runs its own
        assert provider.imap_hosts


# --- commands -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", READMES)
def test_every_option_of_the_engines_command_line_is_in_the_readme(name: str) -> None:
    told = text(name)
    for command in ("check", "copy", "verify"):
        shown = subprocess.run([sys.executable, "-m", "engine", command, "--help"], cwd=ROOT, capture_output=True, text=True,
                               timeout=60, check=True).stdout
        for option in set(re.findall(r"--[a-z][a-z-]+", shown)) - {"--help"}:
            if not option.endswith("-"):  # "--destination-…" of the epilogue
                assert f"`{option}" in told, f"{command} {option}"


def test_every_command_of_the_portal_is_documented() -> None:
    shown = subprocess.run([sys.executable, "-m", "portal", "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60,
                           check=True).stdout
    listed = re.search(r"\{([a-z,-]+)\}", shown)
    assert listed
    documents = "".join(text(name) for name in (*READMES, "docs/production.md", "Makefile", "Procfile"))
    assert [c for c in listed[1].split(",") if f"portal {c}" not in documents] == []


@pytest.mark.parametrize("name", READMES)
def test_every_target_and_process_is_in_the_readme(name: str) -> None:
    targets = re.findall(r"^([a-z-]+):.*## ", text("Makefile"), re.MULTILINE)
    assert [t for t in targets if t not in ("help", "clean") and f"make {t}" not in text(name)] == []
    assert [p for p in read_procfile(ROOT / "Procfile") if f"| `{p}` |" not in text(name)] == []


@pytest.mark.parametrize("name", [*READMES, "docs/architecture.md", "docs/production.md", "docs/relay.md"])
def test_every_link_of_a_document_leads_somewhere(name: str) -> None:
    place = (ROOT / name).parent
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text(name)):
        assert target.startswith(("http://", "https://")) or (place / target).exists(), target


# --- dependencies ---------------------------------------------------------------------------------------------------------


def wanted(name: str) -> set[str]:
    return {re.split(r"[\[<>=; ]", line)[0].lower() for line in text(name).splitlines() if re.match(r"[A-Za-z]", line)}


def test_what_is_imported_is_what_is_required() -> None:
    distributions = packages_distributions()
    imported = set()
    for path in (p for part in PRODUCT for p in files(part)):
        for found in imports(path):
            top = found.module.split(".")[0]
            if top not in OURS and top not in sys.stdlib_module_names:
                imported |= {name.lower() for name in distributions.get(top, [top])}
    transitive = {"werkzeug", "jinja2", "markupsafe", "itsdangerous", "proxy-protocol", "pysasl"}  # parts of Flask and pymap themselves
    started = {"gunicorn", "psycopg"}                                             # by the Procfile; by a postgresql:// DATABASE_URL
    assert imported - transitive == wanted("requirements.in") - started


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_every_package_is_pinned_with_hashes_from_the_public_registry(name: str) -> None:
    blocks = re.split(r"\n(?=[a-z0-9])", re.sub(r"^#.*\n", "", text(name), flags=re.MULTILINE))
    for block in blocks:
        assert re.match(r"[a-z0-9][a-z0-9._-]*==\S+", block), block[:80]
        assert "--hash=sha256:" in block, block[:80]
    assert not re.search(r"://|--(extra-)?index-url|--find-links|file:", text(name))


# --- words ----------------------------------------------------------------------------------------------------------------


def pairs_in_python(path: Path) -> list[tuple[str, list[str]]]:
    """Calls of `say` and `Words` with the constant texts they are given."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("say", "Words"):
            texts = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            if len(node.args) == len(texts):
                found.append((f"{path.relative_to(ROOT)}:{node.lineno}", texts))
    return found


def pairs_in_template(path: Path) -> list[tuple[str, list[str]]]:
    tree = Environment(extensions=["jinja2.ext.do"], autoescape=True).parse(path.read_text(encoding="utf-8"))
    return [(f"{path.relative_to(ROOT)}:{call.lineno}",
             [a.value for a in call.args if isinstance(a, nodes.Const) and isinstance(a.value, str)])
            for call in tree.find_all(nodes.Call) if isinstance(call.node, nodes.Name) and call.node.name == "say"
            if all(isinstance(a, nodes.Const) for a in call.args)]


def test_every_text_for_people_is_a_pair() -> None:
    pairs = [pair for path in files("portal") for pair in pairs_in_python(path)]
    pairs += [pair for path in sorted((ROOT / "portal/templates").rglob("*.html")) for pair in pairs_in_template(path)]
    assert len(pairs) > 50
    for where, texts in pairs:
        assert len(texts) == 2, where
        assert any(t.strip() for t in texts), where  # a word before or after a value may be needed in one language only
        assert not CHINESE.search(texts[1]) or texts[1] in ("中", "中文"), where  # the way back from an English page


@pytest.mark.parametrize("part", PRODUCT)
def test_every_module_says_what_it_owns(part: str) -> None:
    silent = [str(p.relative_to(ROOT)) for p in files(part)
              if p.stat().st_size and "versions" not in p.parts and not ast.get_docstring(ast.parse(p.read_text(encoding="utf-8")))]
    assert silent == []
