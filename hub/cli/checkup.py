"""What `hub doctor` looks at: each check says what it found and the command that mends it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import StrEnum

from hub.cli.entry import bare_store, current_settings, database_file
from hub.clock import Clock, format_duration, rfc3339
from hub.connections import App, Connection, Connections
from hub.errors import ConfigError, HubError
from hub.plugins import Plugins, load_plugins
from hub.process import OneProcess, make_vault, public_url
from hub.segments import survey
from hub.settings import Settings
from hub.store import migrate
from hub.store.invariants import Sweep, lasting
from hub.store.session import Store
from hub.timetravel import HubTime

_REDIS_LIMIT_S = 3
_SKEW_LIMIT_MS = 1_000


class State(StrEnum):
    """How serious a finding is."""

    OK = "ok"
    WARNING = "warning"
    WRONG = "wrong"


@dataclass(frozen=True)
class Finding:
    """What one check found; `mend` is a command or what to do, empty when nothing is to be done."""

    check: str
    state: State
    message: str
    mend: str = ""


async def examine() -> list[Finding]:
    """Every finding, in the order in which mending makes sense. Checks that others make pointless are left out."""
    try:
        settings = current_settings()
    except ConfigError as error:
        return [Finding("settings", State.WRONG, str(error), "correct the variable, then `hub settings`")]
    findings = [Finding("settings", State.OK, "all can be read")]
    plugins = load_plugins(quarantine=True)
    findings += _plugins(plugins)
    findings.append(_public_url(settings))
    if settings.redis_url:
        findings.append(await _redis(settings.redis_url))
    if settings.embedded:
        findings.append(_lock(settings))
    findings.append(_spool(settings))
    async with bare_store(settings) as store:
        findings += [finding async for finding in _database(settings, store, plugins)]
    return findings


def _plugins(plugins: Plugins) -> list[Finding]:
    names = sorted(plugins.catalogue.connectors)
    found = [
        Finding("plugins", State.WRONG, problem, f"mend or uninstall the plugin {name}, then `hub plugins`")
        for name, problem in plugins.catalogue.unusable.items()
    ]
    if not names:
        mend = "pip install tetik-hub-shopify, or another connector"
        return [*found, Finding("plugins", State.WARNING, "there is no connector, so nothing can happen", mend)]
    return [*found, Finding("plugins", State.OK, f"connectors {', '.join(names)}")]


def _public_url(settings: Settings) -> Finding:
    if not settings.public_url:
        return Finding(
            "public address",
            State.WARNING,
            f"HUB_PUBLIC_URL is not set, so vendors are told {public_url(settings)}, which only this machine reaches",
            "HUB_PUBLIC_URL=https://… (sandboxes do not need it)",
        )
    if not settings.public_url.startswith("https://"):
        return Finding(
            "public address", State.WARNING, "it is not https, so webhooks travel readable", "HUB_PUBLIC_URL=https://…"
        )
    return Finding("public address", State.OK, settings.public_url)


async def _redis(url: str) -> Finding:
    from redis.asyncio import Redis
    from redis.exceptions import RedisError

    try:
        async with Redis.from_url(url, socket_connect_timeout=_REDIS_LIMIT_S, socket_timeout=_REDIS_LIMIT_S) as redis:
            await redis.ping()
    except (RedisError, OSError, ValueError) as error:
        return Finding(
            "redis",
            State.WRONG,
            f"it does not answer ({type(error).__name__}), so workers look only once a second",
            "start Redis or correct HUB_REDIS_URL; `hub settings` shows it",
        )
    return Finding("redis", State.OK, "it answers")


def _lock(settings: Settings) -> Finding:
    if not settings.data_dir.exists():
        return Finding("process", State.OK, "no hub runs on this data directory")
    try:
        with OneProcess(settings):
            return Finding("process", State.OK, "no hub runs on this data directory")
    except ConfigError:
        return Finding("process", State.OK, "a hub runs on this data directory")
    except OSError as error:
        return Finding(
            "process", State.WRONG, f"the lock file cannot be opened: {error}", f"make {settings.data_dir} writable"
        )


def _spool(settings: Settings) -> Finding:
    folder = settings.spool_folder()
    if folder is None:
        return Finding("spool", State.OK, "there is none: while the database is away, vendors are told to repeat")
    try:
        depth = survey(folder)
    except OSError as error:
        return Finding("spool", State.WRONG, f"{folder} cannot be read: {error.strerror}", "make it readable")
    if depth.bad:
        found = f"{len(depth.bad)} files hold deliveries that could not be read: {', '.join(depth.bad)}"
        mend = f"add the key they were sealed with to HUB_KEYS and rename them in {folder} to end in .spool, or delete them"
        return Finding("spool", State.WRONG, found, mend)
    if depth.records:
        since = f", since {rfc3339(depth.oldest_ms)}" if depth.oldest_ms is not None else ""
        waits = f"deliveries that wait to be stored: {depth.records} ({depth.bytes:,} bytes{since})"
        return Finding("spool", State.WARNING, waits, "start the hub, and the database if it is down")
    return Finding("spool", State.OK, "nothing waits")


async def _database(settings: Settings, store: Store, plugins: Plugins) -> AsyncIterator[Finding]:
    file = database_file(settings)
    if file is not None and not file.exists():
        yield Finding("database", State.WRONG, f"there is none at {file} yet", "hub up")
        return
    try:
        schema = await migrate.status(store)
    except HubError as error:
        mend = "correct HUB_DATABASE_URL or start the database; `hub settings` shows the address"
        yield Finding("database", State.WRONG, str(error), mend)
        return
    yield Finding("database", State.OK, f"{store.dialect} answers")
    if not schema.ready:
        found = schema.current or "empty"
        yield Finding("schema", State.WRONG, f"it is {found}, this release needs {schema.needed}", "hub db upgrade")
        return
    yield Finding("schema", State.OK, schema.needed)
    async for finding in _clock(settings, store):
        yield finding
    async for finding in _connections(settings, store, plugins):
        yield finding
    for finding in await _invariants(settings, store):
        yield finding


async def _clock(settings: Settings, store: Store) -> AsyncIterator[Finding]:
    clock = Clock()
    await HubTime(store, clock, development=True).sync()
    if clock.offset_ms:
        used = "" if settings.development else ", which is not used since HUB_DEVELOPMENT is not set"
        moved = f"it was moved ahead by {format_duration(clock.offset_ms)}{used}; what is stored may lie in the future"
        yield Finding("clock", State.WARNING, moved, "for real work start with an empty database")
    if abs(clock.skew_ms) > _SKEW_LIMIT_MS:
        side = "ahead of" if clock.skew_ms > 0 else "behind"
        skew = (
            f"the database's clock is {format_duration(abs(clock.skew_ms))} {side} this machine's; the hub follows it"
        )
        yield Finding("clock", State.WARNING, skew, "let both machines keep time by NTP")
    if not clock.offset_ms and abs(clock.skew_ms) <= _SKEW_LIMIT_MS:
        yield Finding("clock", State.OK, "hub time is real time")


async def _invariants(settings: Settings, store: Store) -> list[Finding]:
    """What the watchdog of a worker looks for. Looked for twice: in the midst of work much looks wrong for a moment."""
    clock = Clock()
    await HubTime(store, clock, development=settings.development).sync()
    async with store.read() as c:
        both = await lasting(c, sweep=Sweep, now_ms=clock.now_ms(), lease_ms=int(settings.lease_s * 1000))
    found = [Finding("watchdog", State.WARNING, f"{f.message}: {len(f.refs)} found", f.mend) for f in both]
    return found or [Finding("watchdog", State.OK, "nothing is stuck")]


async def _connections(settings: Settings, store: Store, plugins: Plugins) -> AsyncIterator[Finding]:
    try:
        vault = make_vault(settings)
    except ConfigError as error:
        yield Finding("keys", State.WRONG, str(error), "hub keys generate")
        return
    connections = Connections(store, vault, plugins.catalogue, Clock())
    owners: list[Connection | App] = [*await connections.all(), *await connections.apps()]
    sealed = [finding for owner in owners if (finding := await _opens(connections, owner))]
    for finding in sealed or [Finding("keys", State.OK, f"they open all of {len(owners)} connections and apps")]:
        yield finding
    healths = await connections.healths()
    for connection in await connections.all():
        yield _health(connection, plugins, healths.get(connection.name))


async def _opens(connections: Connections, owner: Connection | App) -> Finding | None:
    try:
        await connections.fields(owner)
    except ConfigError as error:
        return Finding("keys", State.WRONG, f"{owner.name}: {error}", "add the key it was encrypted with to HUB_KEYS")
    return None


def _health(connection: Connection, plugins: Plugins, health: tuple[str, str | None] | None) -> Finding:
    check = f"connection {connection.name}"
    if connection.connector not in plugins.catalogue.connectors:
        missing = f"its connector {connection.connector} is not installed"
        return Finding(check, State.WRONG, missing, f"pip install tetik-hub-{connection.connector}, then `hub plugins`")
    if connection.health != "ok":
        reason = f"{connection.health}{f': {connection.health_reason}' if connection.health_reason else ''}"
        return Finding(check, State.WRONG, reason, f"hub connections reauthorise {connection.name}")
    if health is not None:
        return Finding(check, State.WARNING, f"{health[0]} {health[1]}", f"hub connections test {connection.name}")
    return Finding(check, State.OK, f"{connection.mode}, account {connection.account}")
