"""Which providers there are: one TOML file each, read when somebody asks for it and kept.

Owns where the files are and the cache. Adding a provider is adding a file; no code names one except where a fact forces it.
Always: an unknown key is the generic provider, so that every caller has hosts, steps and words to show; who asks for one provider does not
pay for reading forty, since a rerun of one mailbox starts a process for less than that costs.
"""
from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from engine.providers.provider import Provider, Step, read_provider, read_steps
from engine.providers.reading import BadData, read_table, read_text

_DATA = Path(__file__).parent
_NOT_PROVIDERS = {"replies", "transport"}
GENERIC = "generic"


@cache
def keys(folder: Path = _DATA) -> tuple[str, ...]:
    """Keys of all providers, by name; a key is the name of its file."""
    return tuple(sorted(path.stem for path in folder.glob("*.toml") if path.stem not in _NOT_PROVIDERS))


@cache
def load(key: str, folder: Path = _DATA) -> Provider:
    """Reads one provider. Raises BadData naming file and key."""
    file = read_table(folder / f"{key}.toml")
    shared: dict[str, Step] = {}
    for other in file.texts("steps_from"):
        if other not in keys(folder):
            raise file.bad("steps_from", f"there is no {other}.toml")
        shared |= read_steps(read_table(folder / f"{other}.toml"))
    return read_provider(file, key, shared)


@cache
def providers() -> dict[str, Provider]:
    """All providers by key. Reads every file once."""
    return {key: load(key) for key in keys()}


@cache
def _texts() -> dict[str, str]:
    """The files as they are. Reading them costs a tenth of what understanding them does."""
    return {key: (_DATA / f"{key}.toml").read_text("utf-8") for key in keys()}


def mentioning(word: str) -> Iterator[Provider]:
    """The providers whose file holds this very word somewhere (a host, a domain), by name; no other file is understood."""
    return (load(key) for key, text in _texts().items() if word in text)


@cache
def greetings() -> tuple[tuple[str, re.Pattern[str]], ...]:
    """(provider key, what its greetings look like), from the heads of the files that have any: what stands before the first table."""
    return tuple((key, pattern) for key, text in _texts().items() if "greetings" in text
                 for pattern in read_text(f"{key}.toml", text.partition("\n[")[0]).regexes("greetings"))


def known(key: str) -> bool:
    return key in keys()


def provider(key: str | None) -> Provider:
    """The provider with this key; the generic one when the key is None or unknown."""
    return load(key if key is not None and known(key) else GENERIC)


@cache
def _all_steps() -> dict[str, Step]:
    found: dict[str, Step] = {}
    for one in providers().values():
        for step in (*one.steps, *one.occasional):
            if found.setdefault(step.id, step) != step:
                raise BadData(f"{one.key}.toml: step: {step.id!r} is defined differently in another file")
    return found


def step(step_id: str | None, provider_key: str | None = None) -> Step | None:
    """A step by its id: at its provider when that is known (quick), else wherever it stands. None when there is none."""
    if step_id is None:
        return None
    return provider(provider_key).step(step_id) or _all_steps().get(step_id)
