"""The pace of accounts, shared by all workers through Redis (engine/pacing says what it means).

Owns: one key per (provider, account, egress), and how a change of it is made without losing another's: read, compute, write if nobody
wrote meanwhile. Must not: put an address or a login there; fail a slice. Times are the Redis server's, so workers' clocks may differ.
Always: Redis may be wiped at any time. Then the next command goes out, its refusal puts the wait back, and what was spent of a day's
budget is forgotten: the provider's own answer is then what holds us (SQL would keep it; it is not worth a write per batch). While Redis is
away, this process goes on with what it knew last.
"""
from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from engine.pacing.key import PaceKey
from engine.pacing.state import PaceState
from engine.pacing.store import Change, MemoryPaceStore

log = logging.getLogger(__name__)

CONNECT_SECONDS, ANSWER_SECONDS = 1.0, 2.0
AWAY_SECONDS = 10.0       # after a failure Redis is not asked for so long
KEEP_SECONDS = 27 * 3600  # longer than a day's budget and than the longest wait
TRIES = 100               # of a change that others overtake
PAUSE_SECONDS = 0.001     # before the second try, at most; so much longer before each further one
_PREFIX = "banjia:pace:"

_LOOK = """
local at = redis.call('TIME')
return {redis.call('GET', KEYS[1]) or '', at[1], at[2]}
"""
_SWAP = """
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
return 1
"""


class RedisPaceStore:
    """`holder` names the mailbox and not the process: the next worker of the same mailbox takes over what a dead one held."""

    def __init__(self, redis_url: str, holder: str, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.holder = holder
        self._redis = Redis.from_url(redis_url, socket_connect_timeout=CONNECT_SECONDS, socket_timeout=ANSWER_SECONDS,
                                     retry=Retry(NoBackoff(), 0))
        self._look = self._redis.register_script(_LOOK)
        self._swap = self._redis.register_script(_SWAP)
        self._own = MemoryPaceStore(holder)
        self._monotonic = monotonic
        self._away_until = 0.0

    def look(self, key: PaceKey) -> tuple[PaceState, float]:
        return self._with_redis(lambda: self._read(key), lambda: self._own.look(key))

    def change(self, key: PaceKey, change: Change) -> tuple[PaceState, float]:
        return self._with_redis(lambda: self._write(key, change), lambda: self._own.change(key, change))

    def close(self) -> None:
        self._redis.close()

    def _with_redis(self, shared: Callable[[], tuple[PaceState, float]], alone: Callable[[], tuple[PaceState, float]],
                    ) -> tuple[PaceState, float]:
        if self._monotonic() >= self._away_until:
            try:
                return shared()
            except RedisError as error:
                log.warning("pacing: Redis is away (%s); this worker keeps its own pace", type(error).__name__)
                self._away_until = self._monotonic() + AWAY_SECONDS
        return alone()

    def _read(self, key: PaceKey) -> tuple[PaceState, float]:
        text, seconds, micros = self._look(keys=[_name(key)])
        state = PaceState.from_text(text)
        self._own.learn(key, state)
        return state, _time(seconds, micros)

    def _write(self, key: PaceKey, change: Change) -> tuple[PaceState, float]:
        for tries in range(TRIES):
            time.sleep(random.uniform(0.0, tries * PAUSE_SECONDS))  # noqa: S311  # out of step with the others, not a secret
            text, seconds, micros = self._look(keys=[_name(key)])
            now = _time(seconds, micros)
            state = change(PaceState.from_text(text), now)
            if self._swap(keys=[_name(key)], args=[text, state.to_text(), KEEP_SECONDS]):
                self._own.learn(key, state)
                return state, now
        raise RedisError("others write all the time")


def _name(key: PaceKey) -> str:
    return _PREFIX + str(key)


def _time(seconds: bytes, micros: bytes) -> float:
    return int(seconds) + int(micros) / 1e6
