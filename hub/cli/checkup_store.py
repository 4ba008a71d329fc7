"""What `hub doctor` asks the database: schema, clock, keys, connections, what comes in, what is held back, what is stuck."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from hub.cli.entry import database_file
from hub.cli.findings import Finding, State, found_by
from hub.clock import DAY_MS, Clock, format_duration, rfc3339
from hub.connections import App, Connection, Connections
from hub.errors import ConfigError, HubError
from hub.library import Library
from hub.pauses import Pauses
from hub.plugins import Plugins
from hub.settings import Settings
from hub.store import connections as rows
from hub.store import erasures, revisions, subscriptions, symptoms, views
from hub.store.invariants import Sweep, lasting
from hub.store.session import Store
from hub.timetravel import HubTime
from hub.vault import make_vault

_SKEW_LIMIT_MS = 1_000
# A connection that recipes listen to and nothing came from for so long is worth a look; a token that ends within it, too.
_SILENT_MS = _ENDING_MS = 7 * DAY_MS
# Refusals of an hour that are so many, and so many times those of the hours before, are rising.
_REFUSED_MOST, _REFUSED_TIMES = 10, 3


async def in_database(settings: Settings, store: Store, plugins: Plugins) -> AsyncIterator[Finding]:
    """Every finding about what is stored, once the database answers and has the schema."""
    file = database_file(settings)
    if file is not None and not file.exists():
        yield Finding("database", State.WRONG, f"there is none at {file} yet", "hub up")
        return
    try:
        schema = await revisions.status(store)
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
    checks: dict[str, Callable[[Settings, Store, Plugins], AsyncIterator[Finding]]] = {
        "clock": _clock,
        "keys": _keys,
        "connections": _connections,
        "subscriptions": _subscriptions,
        "webhooks": _refusals,
        "pauses": _pauses,
        "watchdog": _watchdog,
        "runs": _aside,
        "people": _people,
    }
    for name, check in checks.items():
        for finding in await found_by(name, check(settings, store, plugins)):
            yield finding


async def _hub_clock(settings: Settings, store: Store) -> Clock:
    clock = Clock()
    await HubTime(store, clock, development=settings.development).sync()
    return clock


async def _clock(settings: Settings, store: Store, _: Plugins) -> AsyncIterator[Finding]:
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


# -- keys and connections ----------------------------------------------------------------------------------------------


def _book(settings: Settings, store: Store, plugins: Plugins) -> Connections:
    """The connections. Raises ConfigError without keys."""
    return Connections(store, make_vault(settings), plugins.catalogue, Clock())


async def _keys(settings: Settings, store: Store, plugins: Plugins) -> AsyncIterator[Finding]:
    try:
        connections = _book(settings, store, plugins)
        first, *_ = make_vault(settings).key_ids
    except ConfigError as error:
        file = settings.data_dir / "keys"
        made = f"paste -sd, {file}" if file.exists() else "hub keys generate"
        yield Finding("keys", State.WRONG, str(error), f"export HUB_KEYS=$({made})")
        return
    owners: list[Connection | App] = [*await connections.all(), *await connections.apps()]
    closed = [finding for owner in owners if (finding := await _closed(connections, owner))]
    for finding in closed:
        yield finding
    async with store.read() as c:
        older = {key: n for key, n in (await rows.sealed_by_key(c)).items() if key != first}
    if older and not closed:
        which = ", ".join(f"{key} ({n})" for key, n in sorted(older.items()))
        yield Finding("keys", State.WARNING, f"older keys still seal credentials: {which}", "hub keys rotate")
    elif not closed:
        yield Finding("keys", State.OK, f"they open all of {len(owners)} connections and apps")


async def _closed(connections: Connections, owner: Connection | App) -> Finding | None:
    """What is wrong when the keys do not open the credentials."""
    try:
        await connections.fields(owner)
    except ConfigError as error:
        return Finding("keys", State.WRONG, f"{owner.name}: {error}", "add the key it was encrypted with to HUB_KEYS")
    return None


async def _connections(settings: Settings, store: Store, plugins: Plugins) -> AsyncIterator[Finding]:
    try:
        connections = _book(settings, store, plugins)
    except ConfigError:
        # Said already, by the check of the keys.
        return
    library = Library(store, plugins.catalogue, connections, Clock())
    healths = await connections.healths()
    now_ms = (await _hub_clock(settings, store)).now_ms()
    async with store.read() as c:
        heard = await symptoms.heard(c)
    for connection in await connections.all():
        check = f"connection {connection.name}"
        wrong = _health(connection, plugins, healths.get(connection.name))
        found = [wrong] if wrong else []
        if connection.connector in plugins.catalogue.connectors:
            found += [finding async for finding in _token(connection, connections, library)]
            if (ending := await connections.ending(connection.name)) is not None:
                state = State.WRONG if ending.is_over else State.WARNING
                found.append(Finding(check, state, ending.sentence, ending.mend))
            listening = await library.started_by(connection.name)
            if silent := _silence(connection, listening, heard.get(connection.id), now_ms):
                found.append(silent)
        for finding in found or [Finding(check, State.OK, f"{connection.mode}, account {connection.account}")]:
            yield finding


def _health(connection: Connection, plugins: Plugins, health: tuple[str, str | None] | None) -> Finding | None:
    check = f"connection {connection.name}"
    if connection.connector not in plugins.catalogue.connectors:
        missing = f"its connector {connection.connector} is not installed"
        return Finding(check, State.WRONG, missing, f"pip install tetik-hub-{connection.connector}, then `hub plugins`")
    if connection.health != "ok":
        reason = f"{connection.health}{f': {connection.health_reason}' if connection.health_reason else ''}"
        return Finding(check, State.WRONG, reason, f"hub connections reauthorise {connection.name}")
    if health is not None:
        return Finding(check, State.WARNING, f"{health[0]} {health[1]}", f"hub connections test {connection.name}")
    return None


async def _token(connection: Connection, connections: Connections, library: Library) -> AsyncIterator[Finding]:
    check = f"connection {connection.name}"
    for scope, recipes in (await library.missing_scopes(connection.name)).items():
        lacks = f"nobody granted the scope {scope}, which {', '.join(recipes)} needs"
        # What somebody pasted is widened where it was made.
        again = f"reauthorise {connection.name} --scope {scope}" if connection.app_id else f"test {connection.name}"
        at_vendor = "" if connection.app_id else "grant it at the vendor, then "
        yield Finding(check, State.WRONG, lacks, f"{at_vendor}hub connections {again}")
    ends_ms = await connections.tokens.ends_at_ms(connection)
    left_ms = None if ends_ms is None else ends_ms - Clock().now_ms()
    if ends_ms is not None and left_ms is not None and left_ms < _ENDING_MS:
        verb = "ends" if left_ms > 0 else "ended"
        said = f"its token {verb} at {rfc3339(ends_ms)}, and the vendor gave nothing to renew it by"
        state = State.WARNING if left_ms > 0 else State.WRONG
        yield Finding(check, state, said, f"hub connections reauthorise {connection.name}")


def _silence(connection: Connection, listening: list[str], heard: symptoms.Heard | None, now_ms: int) -> Finding | None:
    """A connection that recipes listen to and that says nothing. Sandboxes are silent unless somebody plays with them."""
    if not listening or connection.sandbox or heard is None:
        return None
    since_ms = heard.last_ms or heard.since_ms
    if now_ms - since_ms < _SILENT_MS:
        return None
    last = (
        f"its last event came at {rfc3339(heard.last_ms)}" if heard.last_ms else "no event of it came for long, or ever"
    )
    return Finding(
        f"connection {connection.name}",
        State.WARNING,
        f"{last}, and {', '.join(listening)} listen to it",
        "compare its address in `hub connections list` with the vendor's settings; `hub deliveries --refused` says what "
        "was refused",
    )


async def _subscriptions(settings: Settings, store: Store, plugins: Plugins) -> AsyncIterator[Finding]:
    """Whether vendors were told where to call, as of the last look."""
    async with store.read() as c:
        found = await subscriptions.rows(c)
        _, known = await rows.everything(c)
    live = {row["name"] for row in known if row["mode"] == "live"}
    wrong = 0
    for name, row in found.items():
        check = f"subscriptions of {name}"
        if not settings.public_url and name in live:
            untold = "HUB_PUBLIC_URL is not set, so the vendor is not told where to call"
            yield Finding(check, State.WARNING, untold, "HUB_PUBLIC_URL=https://…, then start the hub again")
        elif problem := views.trouble(row):
            yield Finding(check, State.WARNING, problem, f"hub connections subscriptions {name}")
        else:
            continue
        wrong += 1
    if not wrong:
        yield Finding("subscriptions", State.OK, f"they are kept for {len(found)} connections")


# -- what comes in, what is held back, what is stuck -------------------------------------------------------------------


async def _refusals(settings: Settings, store: Store, _: Plugins) -> AsyncIterator[Finding]:
    now_ms = (await _hub_clock(settings, store)).now_ms()
    async with store.read() as c:
        rising = [
            one
            for one in await symptoms.refused(c, now_ms)
            if one.last_hour >= _REFUSED_MOST and one.last_hour > _REFUSED_TIMES * one.usual
        ]
    for one in rising:
        often = (
            f"{one.last_hour} calls for {one.connector} were refused in the last hour, {one.usual:.1f} an hour before"
        )
        yield Finding("webhooks", State.WARNING, often, "hub deliveries --refused")
    if not rising:
        yield Finding("webhooks", State.OK, "refusals are not rising")


async def _pauses(settings: Settings, store: Store, _: Plugins) -> AsyncIterator[Finding]:
    pauses = Pauses(store, await _hub_clock(settings, store))
    known = await pauses.known.current()
    for pause in known:
        held = await pauses.held(pause)
        about = f"{pause.about} is paused since {rfc3339(pause.at_ms)} by {pause.who}: {pause.reason}; {held.runs} runs wait"
        option = "--all" if pause.kind == "all" else f"--{pause.kind} {pause.target}"
        yield Finding("pauses", State.WARNING, about, f"hub resume {option}")
    if not known:
        yield Finding("pauses", State.OK, "nothing is paused")


async def _watchdog(settings: Settings, store: Store, _: Plugins) -> AsyncIterator[Finding]:
    """What the watchdog of a worker looks for. Looked for twice: in the midst of work much looks wrong for a moment."""
    clock = await _hub_clock(settings, store)
    async with store.read() as c:
        both = await lasting(c, sweep=Sweep, now_ms=clock.now_ms(), lease_ms=int(settings.lease_s * 1000))
    for finding in both:
        yield Finding("watchdog", State.WARNING, f"{finding.message}: {len(finding.refs)} found", finding.mend)
    if not both:
        yield Finding("watchdog", State.OK, "nothing is stuck")


async def _aside(_: Settings, store: Store, plugins: Plugins) -> AsyncIterator[Finding]:
    async with store.read() as c:
        aside = await symptoms.aside(c)
    found = {
        "runs were set aside after five claims without progress": (aside.poison, "hub runs retry --outcome poison"),
        "events could not be routed": (aside.quarantined, "hub events list --stage quarantined"),
        "events wait for a plugin that is not there": (aside.without_plugin, "hub events list --stage plugin"),
    }
    for what, (count, mend) in found.items():
        if count:
            yield Finding("runs", State.WARNING, f"{what}: {count}", mend)
    if not any(count for count, _ in found.values()):
        yield Finding("runs", State.OK, "nothing was set aside")


async def _people(_: Settings, store: Store, plugins: Plugins) -> AsyncIterator[Finding]:
    async with store.read() as c:
        waiting, since_ms = await erasures.open_requests(c)
    if since_ms is not None:
        asked = f"people asked what is known of them, the first at {rfc3339(since_ms)}: {waiting} not answered"
        yield Finding(
            "people", State.WARNING, asked, "hub contacts requests, then hub contacts export CONTACT --to FILE"
        )
    else:
        yield Finding("people", State.OK, "nobody waits for an export")
