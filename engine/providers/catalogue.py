"""Which providers there are: one TOML file each, read when somebody asks for it and kept.

Owns where the files are and the cache. Adding a provider is adding a file; no code names one except where a fact forces it.
Always: an unknown key is the generic provider, so that every caller has hosts, steps and words to show.
"""
from __future__ import annotations

from functools import cache
from pathlib import Path

from engine.providers.provider import Provider, Step, read_provider, read_steps
from engine.providers.reading import BadData, read_table

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
