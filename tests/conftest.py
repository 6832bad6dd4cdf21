"""Fixtures that several suites share: real servers, started once per test process, and what to do where one is missing.

A test that needs something not installed is skipped with its name; with REQUIRE_ALL=1 (set by .ci/run) it fails instead, so that
nothing passes by not running.
"""
from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support import cyrus as cyrus_support
from tests.support import dovecot as dovecot_support
from tests.support.dovecot import PASSWORD, Dovecot, Pair, running_dovecot
from tests.support.portal_app import PortalForTests, portal_in, prepared_template
from tests.support.redis_server import NoRedis, RedisForTests, running_redis

# How long an example takes says what else the machine does; the mutation run wants the same ones each time.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "busy"))

REQUIRE_ALL = os.environ.get("REQUIRE_ALL") == "1"
LOGINS = {f"u{number:03d}@example.com": PASSWORD for number in range(1, 600)}


def _missing(what: str) -> None:
    if REQUIRE_ALL:
        pytest.fail(f"{what} is not installed, and REQUIRE_ALL=1", pytrace=False)
    pytest.skip(f"{what} is not installed")


@pytest.fixture(scope="session")
def need_dovecot() -> None:
    """For tests that start a Dovecot of their own with running_dovecot()."""
    if dovecot_support.installed_version() is None:
        _missing("Dovecot (dovecot-imapd)")


@pytest.fixture(scope="session")
def need_cyrus() -> None:
    """For tests that start a Cyrus of their own with running_cyrus()."""
    if not cyrus_support.installed():
        _missing("Cyrus (make test unpacks Debian's cyrus-imapd)")


@pytest.fixture(scope="session")
def dovecot_pair(need_dovecot: None) -> Iterator[Pair]:
    """A source (separator ".") and a destination (separator "/"), for the whole test process. Use each login once: `fresh_user`."""
    with running_dovecot(LOGINS, separator=".", fsync="never") as source, \
         running_dovecot(LOGINS, separator="/", fsync="never", mail_format="sdbox", listescape=False) as destination:
        yield Pair(source, destination)


@pytest.fixture
def source_server(dovecot_pair: Pair) -> Dovecot:
    return dovecot_pair.source


@pytest.fixture
def destination_server(dovecot_pair: Pair) -> Dovecot:
    return dovecot_pair.destination


@pytest.fixture
def fresh_user() -> str:
    """A login that no other test of this process uses (empty on both servers; password dovecot.PASSWORD)."""
    return dovecot_support.fresh_login()


@pytest.fixture
def fresh_users() -> Callable[[], str]:
    """For tests that need several logins."""
    return dovecot_support.fresh_login


@pytest.fixture(scope="session")
def redis_process() -> Iterator[RedisForTests]:
    """One private Redis for the whole test process."""
    try:
        with running_redis() as server:
            yield server
    except NoRedis:
        _missing("Redis (redis-server or valkey-server)")


@pytest.fixture
def redis_server(redis_process: RedisForTests) -> RedisForTests:
    """The private Redis, empty."""
    redis_process.flush()
    return redis_process


@pytest.fixture
def redis_url(redis_server: RedisForTests) -> str:
    return redis_server.url


@pytest.fixture(scope="session")
def instance_template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keys and an empty database, made once per process and copied by `portal`."""
    with prepared_template(tmp_path_factory.mktemp("template") / "instance") as directory:
        yield directory


@pytest.fixture
def portal(tmp_path: Path, instance_template: Path) -> Iterator[PortalForTests]:
    """A portal without Redis (what it would queue waits in the database)."""
    with portal_in(tmp_path / "instance", instance_template) as one:
        yield one


@pytest.fixture
def portal_with_queue(tmp_path: Path, instance_template: Path, redis_url: str) -> Iterator[PortalForTests]:
    """A portal whose work goes to the private Redis."""
    with portal_in(tmp_path / "instance", instance_template, redis_url) as one:
        yield one
