"""What `hub doctor` looks at on this machine: each check says what it found and the command that mends it.

What it asks the database stands in `hub.cli.checkup_store`.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path

from hub.cli.checkup_store import in_database
from hub.cli.entry import bare_store, current_settings, unknown_variables
from hub.cli.findings import Finding, State, found_by
from hub.clock import format_duration, rfc3339
from hub.errors import ConfigError
from hub.oneprocess import OneProcess
from hub.plugins import Plugins, load_plugins
from hub.segments import survey
from hub.settings import Settings

_REDIS_LIMIT_S = 3
_SKEW_LIMIT_MS = 1_000
# Below this much of a disk, and below this many bytes, somebody should look; below the last nothing is sure any more.
_DISK_SHARE, _DISK_LOW, _DISK_OUT = 0.05, 5_000_000_000, 200_000_000


async def examine() -> list[Finding]:
    """Every finding, in the order in which mending makes sense. Checks that others make pointless are left out."""
    try:
        settings = current_settings()
    except ConfigError as error:
        return [Finding("settings", State.WRONG, str(error), "correct the variable, then `hub settings`")]
    plugins = load_plugins(quarantine=True)
    checks = {
        "settings": _settings(),
        "plugins": _plugins(plugins),
        "public address": _public_url(settings),
        "redis": _redis(settings),
        "process": _lock(settings),
        "spool": _spool(settings),
        "disk": _disk(settings),
    }
    found = [finding for name, looks in checks.items() for finding in await found_by(name, looks)]
    async with bare_store(settings) as store:
        return found + [finding async for finding in in_database(settings, store, plugins)]


async def _settings() -> AsyncIterator[Finding]:
    unknown = unknown_variables()
    for sentence in unknown:
        yield Finding("settings", State.WARNING, sentence, "correct its name or unset it, then `hub settings`")
    if not unknown:
        yield Finding("settings", State.OK, "all can be read")


async def _plugins(plugins: Plugins) -> AsyncIterator[Finding]:
    names = sorted(plugins.catalogue.connectors)
    for name, problem in plugins.catalogue.unusable.items():
        yield Finding("plugins", State.WRONG, problem, f"mend or uninstall the plugin {name}, then `hub plugins`")
    if names:
        yield Finding("plugins", State.OK, f"connectors {', '.join(names)}")
    else:
        mend = "pip install tetik-hub-shopify, or another connector"
        yield Finding("plugins", State.WARNING, "there is no connector, so nothing can happen", mend)


async def _public_url(settings: Settings) -> AsyncIterator[Finding]:
    """Whether vendors reach it cannot be told from inside; what is certain to fail can."""
    check = "public address"
    if not settings.public_url:
        yield Finding(
            check,
            State.WARNING,
            f"HUB_PUBLIC_URL is not set, so vendors are told {settings.address}, which only this machine reaches",
            "HUB_PUBLIC_URL=https://… (sandboxes do not need it)",
        )
    elif not settings.public_url.startswith("https://"):
        readable = "it is not https, so webhooks travel readable"
        yield Finding(check, State.WARNING, readable, "HUB_PUBLIC_URL=https://…")
    else:
        yield Finding(check, State.OK, settings.public_url)


async def _redis(settings: Settings) -> AsyncIterator[Finding]:
    if not settings.redis_url:
        if not settings.embedded:
            slower = "there is none: workers look once a second, and each keeps to its share of every rate"
            yield Finding("redis", State.WARNING, slower, "HUB_REDIS_URL=redis://…")
        return
    from redis.asyncio import Redis
    from redis.exceptions import RedisError

    url, limit_s = settings.redis_url, _REDIS_LIMIT_S
    try:
        async with Redis.from_url(url, socket_connect_timeout=limit_s, socket_timeout=limit_s) as redis:
            await redis.ping()
            asked_ms = time.time() * 1000
            seconds, micros = await redis.time()
            here_ms = (asked_ms + time.time() * 1000) / 2
    except (RedisError, OSError, ValueError) as error:
        yield Finding(
            "redis",
            State.WRONG,
            f"it does not answer ({type(error).__name__}), so workers look only once a second",
            "start Redis or correct HUB_REDIS_URL; `hub settings` shows it",
        )
        return
    ahead_ms = int(seconds * 1000 + micros / 1000 - here_ms)
    if abs(ahead_ms) > _SKEW_LIMIT_MS:
        side = "ahead of" if ahead_ms > 0 else "behind"
        skew = f"its clock is {format_duration(abs(ahead_ms))} {side} this machine's"
        yield Finding("redis", State.WARNING, skew, "let both machines keep time by NTP")
    else:
        yield Finding("redis", State.OK, "it answers")


async def _lock(settings: Settings) -> AsyncIterator[Finding]:
    if not settings.embedded:
        return
    runs = Finding("process", State.OK, "a hub runs on this data directory")
    rests = Finding("process", State.OK, "no hub runs on this data directory")
    if not settings.data_dir.exists():
        yield rests
        return
    try:
        with OneProcess(settings):
            yield rests
    except ConfigError:
        yield runs
    except OSError as error:
        cannot = f"the lock file cannot be opened: {error}"
        yield Finding("process", State.WRONG, cannot, f"make {settings.data_dir} writable")


async def _spool(settings: Settings) -> AsyncIterator[Finding]:
    folder = settings.spool_folder()
    if folder is None:
        yield Finding("spool", State.OK, "there is none: while the database is away, vendors are told to repeat")
        return
    try:
        depth = survey(folder)
    except OSError as error:
        yield Finding("spool", State.WRONG, f"{folder} cannot be read: {error.strerror}", "make it readable")
        return
    if depth.bad:
        found = f"{len(depth.bad)} files hold deliveries that could not be read: {', '.join(depth.bad)}"
        mend = f"add the key they were sealed with to HUB_KEYS and rename them in {folder} to end in .spool, or delete them"
        yield Finding("spool", State.WRONG, found, mend)
    elif depth.records:
        since = f", since {rfc3339(depth.oldest_ms)}" if depth.oldest_ms is not None else ""
        waits = f"deliveries that wait to be stored: {depth.records} ({depth.bytes:,} bytes{since})"
        yield Finding("spool", State.WARNING, waits, "start the hub, and the database if it is down")
    else:
        yield Finding("spool", State.OK, "nothing waits")


async def _disk(settings: Settings) -> AsyncIterator[Finding]:
    """Room where this machine writes: the embedded hub's data directory, and the spool's folder."""
    folders = {settings.data_dir} if settings.embedded else set()
    folders |= {folder} if (folder := settings.spool_folder()) else set()
    disks: dict[int, list[Path]] = {}
    for folder in sorted(folders):
        disks.setdefault(_existing(folder).stat().st_dev, []).append(folder)
    for together in disks.values():
        room = shutil.disk_usage(_existing(together[0]))
        where = f"the disk of {' and '.join(map(str, together))}" if len(together) > 1 else str(together[0])
        left = f"{where} has {room.free / 1e9:,.1f} GB left ({100 * room.free / room.total:.0f} %)"
        mend = "make room or move it (HUB_DATA_DIR, HUB_SPOOL_DIR); `hub db prune --dry-run` counts what is too old"
        if room.free < _DISK_OUT:
            yield Finding("disk", State.WRONG, left, mend)
        elif room.free < min(_DISK_LOW, room.total * _DISK_SHARE):
            yield Finding("disk", State.WARNING, left, mend)
        else:
            yield Finding("disk", State.OK, left)


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    absolute = folder.absolute()
    return next(one for one in (absolute, *absolute.parents) if one.exists())
