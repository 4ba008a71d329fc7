"""What all processes know of a connection's limits, in Redis, on the server's clock.

Losing Redis costs accuracy and never opens a limit: each process then keeps to its own share (see `Limits`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from hub.connector import Rate

_PREFIX = "tetik-hub:limits:"
_TIMEOUT_S = 0.3
_AWAY_S = 3.0
# How long the calls of a process that shows no sign of life count as being made: longer than any call.
SLOTS_TTL_MS = 30_000

# Answers: tokens granted (0 = none), milliseconds until there are enough, then for each bucket in how many it is full.
_TAKE = """
local t = redis.call('TIME')
local now = t[1] * 1000 + t[2] / 1000 + tonumber(ARGV[2])
local cost, grant, wait = tonumber(ARGV[3]), tonumber(ARGV[4]), 0
local held = tonumber(redis.call('HGET', KEYS[2], ARGV[1]) or '0') - now
if held > 0 then wait = held end
local full = {}
for i = 5, #ARGV, 4 do
  local name, burst, per_ms = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2]) / 1000
  local at = math.max(now, tonumber(redis.call('HGET', KEYS[1], name) or '0'), now + tonumber(ARGV[i + 3]))
  local available = burst - (at - now) * per_ms
  local lacking = math.min(cost, burst) - available
  if lacking > 1e-6 then wait = math.max(wait, lacking / per_ms) end
  grant = math.min(grant, math.max(available, cost))
  full[#full + 1] = {name, at, per_ms}
end
if wait > 0 then grant = 0 end
local answer, last = {tostring(grant), tostring(wait)}, 0
for _, f in ipairs(full) do
  local at = f[2] + grant / f[3]
  if at > now then redis.call('HSET', KEYS[1], f[1], string.format('%.3f', at)) end
  answer[#answer + 1] = tostring(at - now)
  last = math.max(last, at - now)
end
if last > 0 then redis.call('PEXPIRE', KEYS[1], math.ceil(last) + 60000) end
return answer
"""

# A connection may be called by so many at once: each process holds some of these slots, and says how many it wants.
_SLOTS = """
local t = redis.call('TIME')
local now = t[1] * 1000 + t[2] / 1000
local me, busy, want, limit, ttl = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
for _, dead in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now)) do
  redis.call('ZREM', KEYS[1], dead)
  redis.call('HDEL', KEYS[2], dead, dead .. ':wants')
end
local others, asking, hungry = 0, 1, false
for _, other in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  if other ~= me then
    local has, wants = tonumber(redis.call('HGET', KEYS[2], other) or '0'), tonumber(redis.call('HGET', KEYS[2], other .. ':wants') or '0')
    others = others + has
    asking = asking + 1
    hungry = hungry or wants > has
  end
end
local most = limit
if hungry then most = math.max(1, math.floor(limit / asking)) end
local grant = math.max(busy, math.min(want, most, limit - others))
if want == 0 and busy == 0 then
  redis.call('ZREM', KEYS[1], me)
  redis.call('HDEL', KEYS[2], me, me .. ':wants')
  return 0
end
redis.call('ZADD', KEYS[1], now + ttl, me)
redis.call('HSET', KEYS[2], me, grant, me .. ':wants', want)
redis.call('PEXPIRE', KEYS[1], ttl * 2)
redis.call('PEXPIRE', KEYS[2], ttl * 2)
return grant
"""

# What a vendor asked for only ever moves the instant further away.
_PUSH = """
local t = redis.call('TIME')
local till = t[1] * 1000 + t[2] / 1000 + tonumber(ARGV[2]) + tonumber(ARGV[3])
if till > tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or '0') then
  redis.call('HSET', KEYS[1], ARGV[1], string.format('%.3f', till))
end
return 1
"""

_HELD = """
local t = redis.call('TIME')
local now = t[1] * 1000 + t[2] / 1000 + tonumber(ARGV[1])
local answer, all = {}, redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  if tonumber(all[i + 1]) > now then
    answer[#answer + 1] = all[i]
    answer[#answer + 1] = tostring(tonumber(all[i + 1]) - now)
  else
    redis.call('HDEL', KEYS[1], all[i])
  end
end
return answer
"""

_log = logging.getLogger(__name__)


class Away(Exception):  # (not a failure: the caller keeps to its own share meanwhile)
    """Redis cannot be asked now."""


@dataclass(frozen=True)
class Taken:
    """Tokens granted, or none and seconds until there are enough; and in how many seconds each bucket is full."""

    tokens: float
    wait_s: float
    full_in_s: Sequence[float]


class Shared:
    """The limits in Redis. Every method raises Away, at once while Redis is known to be away.

    `offset_ms` is what hub time is ahead of real time: a clock that jumps refills the shared buckets too.
    """

    def __init__(self, url: str, process: str, offset_ms: Callable[[], int]) -> None:
        self._redis = Redis.from_url(
            url,
            socket_timeout=_TIMEOUT_S,
            socket_connect_timeout=_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
            decode_responses=True,
        )
        self._process, self._offset_ms = process, offset_ms
        self._take, self._slots = self._redis.register_script(_TAKE), self._redis.register_script(_SLOTS)
        self._push, self._held = self._redis.register_script(_PUSH), self._redis.register_script(_HELD)
        self._away_until = float("-inf")
        self.is_away = False

    async def take(
        self,
        connection: str,
        rates: Sequence[Rate],
        bursts: Sequence[float],
        full_in_s: Sequence[float],
        *,
        cost: float,
        want: float,
    ) -> Taken:
        """From `cost` to `want` tokens of every rate. `full_in_s` is what this process knows of the buckets: the later
        instant counts, so that a Redis that forgot everything is told."""
        buckets = zip(rates, bursts, full_in_s, strict=True)
        told = [given for r, burst, in_s in buckets for given in (r.name, burst, r.per_s, in_s * 1000)]
        keys = [f"{_PREFIX}rates:{connection}", f"{_PREFIX}held"]
        answer = await self._ask(self._take, keys, [connection, self._offset_ms(), cost, want, *told])
        tokens, wait_ms, *full_in_ms = map(float, answer)
        return Taken(tokens, wait_ms / 1000, [ms / 1000 for ms in full_in_ms])

    async def slots(self, connection: str, *, busy: int, want: int, limit: int) -> int:
        """How many calls of a connection this process may have in flight; it has `busy` and wants `want`."""
        keys = [f"{_PREFIX}slots:{connection}", f"{_PREFIX}slots:{connection}:each"]
        return int(await self._ask(self._slots, keys, [self._process, busy, want, limit, SLOTS_TTL_MS]))

    async def push(self, connection: str, seconds: float) -> None:
        """Nobody calls this connection for so long."""
        await self._ask(self._push, [f"{_PREFIX}held"], [connection, self._offset_ms(), seconds * 1000])

    async def held(self) -> dict[str, float]:
        """The connections that nobody is to call, with the seconds that are left."""
        answer = await self._ask(self._held, [f"{_PREFIX}held"], [self._offset_ms()])
        return {name: float(ms) / 1000 for name, ms in zip(answer[::2], answer[1::2], strict=True)}

    # `script` and the answer are redis-py's, which types neither.
    async def _ask(self, script: Any, keys: Sequence[str], arguments: Sequence[object]) -> Any:
        if time.monotonic() < self._away_until:
            raise Away
        try:
            answer = await script(keys=keys, args=arguments)
        except (RedisError, OSError, TimeoutError) as error:
            self._away_until = time.monotonic() + _AWAY_S
            if not self.is_away:
                self.is_away = True
                _log.warning(
                    "Redis is away: each process keeps to its share of the limits",
                    extra={"what": "limits_unshared", "error": type(error).__name__},
                )
            _end_if_cancelled()
            raise Away from error
        _end_if_cancelled()
        if self.is_away:
            self.is_away = False
            _log.info("Redis is back: limits are shared again", extra={"what": "limits_shared"})
        return answer

    async def close(self) -> None:
        """Close all connections."""
        await self._redis.aclose()


def _end_if_cancelled() -> None:
    """Raise CancelledError in a task that was cancelled.

    redis-py writes under `asyncio.wait_for`, which on Python 3.11 loses a cancellation that comes as it ends (gh-86296).
    """
    if (task := asyncio.current_task()) is not None and task.cancelling():
        raise asyncio.CancelledError
