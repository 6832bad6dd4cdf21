"""A private, real Redis for tests (the launcher's own, portal/private_redis.py), and the ways a test disturbs it.

    with running_redis() as server:
        server.url            unix://…?db=0, what REDIS_URL takes
        server.client()       a connected redis.Redis
        server.flush()        as if it had been wiped
        server.dump()         every byte it keeps on disk, for a canary sweep
"""
from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from portal.private_redis import NoRedis, PrivateRedis, find_server

__all__ = ["NoRedis", "RedisForTests", "find_server", "running_redis"]


class RedisForTests(PrivateRedis):
    def client(self) -> redis.Redis:
        """The caller closes it."""
        return redis.Redis(unix_socket_path=str(self.socket))

    def flush(self) -> None:
        client = self.client()
        client.flushall()
        client.close()

    def dump(self) -> bytes:
        """The append-only file(s), which hold every write since the last rewrite."""
        return b"".join(path.read_bytes() for path in sorted(self.directory.rglob("*")) if path.is_file())


@contextmanager
def running_redis() -> Iterator[RedisForTests]:
    directory = Path(tempfile.mkdtemp(prefix="rd", dir="/tmp"))
    server = RedisForTests(directory)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(directory, ignore_errors=True)
