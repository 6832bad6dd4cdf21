"""A whole portal in a temporary instance directory: migrated database, keys, app, with or without a Redis behind its queues.

    def test_x(portal: PortalForTests) -> None:          # fixture in tests/conftest.py; no Redis: work waits for the reconciler
        with portal.database.session() as session: ...   # a transaction that commits
        page = portal.client().get("/")
"""
from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from config import Settings, load_settings
from portal.queueing import WorkQueue
from portal.security.keyfiles import ensure_secret_key
from portal.security.vault import KeyFiles, Sealer, Vault, generate_keys
from portal.store.db import Database, migrate

if TYPE_CHECKING:
    from flask import Flask
    from flask.testing import FlaskClient

NO_REDIS = "unix:///nonexistent/banjia-tests.sock?db=0"
_FORM_TOKEN = re.compile(r'name="csrf_token"[^>]*\bvalue="([^"]+)"')


def settings_in(directory: Path, redis_url: str = NO_REDIS, **variables: str) -> Settings:
    """Settings of an instance in `directory`; nothing of this process's environment counts."""
    return load_settings({"INSTANCE_DIR": str(directory), "REDIS_URL": redis_url, "ALLOWED_NETWORKS": "127.0.0.0/8",
                          "ALLOWED_PORTS": "1-65535", **variables}, dotenv=None)


@contextmanager
def prepared_template(directory: Path) -> Iterator[Path]:
    """An instance directory with keys and an empty, migrated database, to be copied (migrating takes most of a second)."""
    settings = settings_in(directory)
    ensure_secret_key(settings.secret_key_file)
    generate_keys(KeyFiles(settings.vault_public_key_file, settings.vault_private_key_file))
    migrate(settings.database_url)
    yield directory


@dataclass(frozen=True)
class PortalForTests:
    settings: Settings

    @cached_property
    def queue(self) -> WorkQueue:
        return WorkQueue(self.settings.redis_url)

    @cached_property
    def database(self) -> Database:
        return Database(self.settings.database_url, queue=self.queue)

    @cached_property
    def sealer(self) -> Sealer:
        return Sealer.from_file(self.settings.vault_public_key_file)

    @cached_property
    def vault(self) -> Vault:
        """What only a worker has: for tests that look at what was sealed."""
        return Vault.from_file(self.settings.vault_private_key_file)

    @cached_property
    def app(self) -> Flask:
        from portal import create_app

        return create_app(self.settings, mx_lookup=lambda _domain: [])

    def client(self) -> FlaskClient:
        """A browser without cookies."""
        return self.app.test_client()

    def close(self) -> None:
        self.database.close()
        self.queue.connection.close()
        if "app" in self.__dict__:
            self.app.extensions["banjia"].database.close()
            self.app.extensions["banjia"].queue.connection.close()


@contextmanager
def portal_in(directory: Path, template: Path, redis_url: str = NO_REDIS, **variables: str) -> Iterator[PortalForTests]:
    shutil.copytree(template, directory, dirs_exist_ok=True)
    portal = PortalForTests(settings_in(directory, redis_url, **variables))
    try:
        yield portal
    finally:
        portal.close()


def form_token(page: str) -> str:
    """The CSRF token of the first form of a page."""
    found = _FORM_TOKEN.search(page)
    assert found, "no form with a CSRF token on this page"
    return found[1]
