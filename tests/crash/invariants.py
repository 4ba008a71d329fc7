"""What must hold after every crash, judged by the vendor's own log. Each violation is a sentence; none is what is wanted."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
from pydantic_core import from_json

from hub.process import open_store
from hub.settings import load_settings
from hub.store import spending
from hub.store.invariants import findings
from hub.store.session import Connection, Store
from hub.store.work import NEVER_MS
from tests.crash.load import Person, Vendor
from tests.crash.stage import LEASE_S, Stage

RESTS_WITHIN_S = 45.0
_LATE_S = LEASE_S + 5
# What each step of the crowd's recipe does, as (action, what it is about).
_EFFECTS = (
    ("put_note", "{id}:note"),
    ("add_keyed", "{id}:keyed"),
    ("charge", "{id}:charge"),
    ("send_text", "{id}:text"),
    ("add_members", "{id}@example.com"),
    ("put_note", "{id}:end"),
)
_REPEATABLE = {"put_note", "add_members"}
_MAY_BE_UNKNOWN = {"charge"}

Effect = tuple[str, str]


async def rest_and_check(stage: Stage, session: aiohttp.ClientSession, vendor: Vendor, crowd: Sequence[Person]) -> None:
    """Let everything come to an end, then look. Raises AssertionError with every violation."""
    async with open_store(load_settings(database_url=stage.looked_at), pool=2) as store:
        await until_rest(store, crowd)
        found = await violations(store, await stage.log(session), vendor, crowd)
        if stage.told is not None:
            found += await _untold(store, set(stage.told.read_text().splitlines()), crowd)
    assert not found, "\n".join(found)


async def check_left(stage: Stage, log: Sequence[Mapping[str, Any]], left: Sequence[Person]) -> None:
    """Who had left while nobody worked got no text afterwards, and the run ended as it should; who was merged is not gone.
    `log` is from that moment.
    """
    texted = {about for entry in log for action, about in _said(entry) if action == "send_text"}
    async with open_store(load_settings(database_url=stage.looked_at), pool=2) as store, store.read() as c:
        recorded, runs = await _recorded(c), await _runs(c, left)
    found = []
    for person in left:
        state = recorded.get(("send_text", f"{person.id}:text"))
        if person.leaves != "merge" and f"{person.id}:text" not in texted and state in {"done", "unknown"}:
            found.append(f"{person.id} had left ({person.leaves}) and was sent a text")
        wanted = {"exit": "acme.purchased", "cancel": "cancelled", "merge": "done"}[person.leaves]
        found += [
            f"{person.id} ended by {r['ended_by']}, not {wanted}" for r in runs[person.id] if r["ended_by"] != wanted
        ]
    assert not found, "\n".join(found)


async def until_rest(
    store: Store, crowd: Sequence[Person], limit_s: float = RESTS_WITHIN_S, *, over_ms: int = NEVER_MS
) -> None:
    """Wait until nothing is unrouted, due or in hand and everybody's run has ended; what is due after `over_ms` may wait."""
    end = time.monotonic() + limit_s
    while left := await _left(store, crowd, over_ms):
        assert time.monotonic() < end, f"not at rest after {limit_s} s: {left}"
        await asyncio.sleep(0.1)


async def _left(store: Store, crowd: Sequence[Person], over_ms: int) -> list[Any]:
    async with store.read() as c:
        unrouted = await c.all("select id, stage from event where stage <> 'routed' limit 5")
        work = await c.all(
            "select * from work where kind in ('run', 'batch', 'notice') and (due_at <= :over or owner is not null) limit 5",
            over=over_ms,
        )
        started = await _runs(c, crowd)
    missing = [p.id for p in crowd if p.id not in started]
    return [*unrouted, *work, *missing[:5]]


async def _runs(c: Connection, crowd: Iterable[Person]) -> Mapping[str, list[Any]]:
    """Everybody's runs, by the id in the event that started them."""
    known = {p.id for p in crowd}
    found: dict[str, list[Any]] = {}
    for row in await c.all("select id, contact_id, trigger_data, status, finished_at, ended_by from run"):
        whose = from_json(row["trigger_data"]).get("id")
        if whose in known:
            found.setdefault(whose, []).append(row)
    return found


async def violations(
    store: Store, log: Sequence[Mapping[str, Any]], vendor: Vendor, crowd: Sequence[Person]
) -> list[str]:
    """Everything that does not hold for these people, and for the queue as a whole."""
    async with store.read() as c:
        return [
            *await _deliveries(c, vendor, crowd),
            *await _of_runs(c, crowd),
            *await _of_merged(c, crowd),
            *await _of_effects(c, log, crowd),
            *await _of_the_queue(c),
            *await of_spending(c),
            *(f"{f.message}: {f.refs}" for f in await findings(c, lease_ms=int(LEASE_S * 1000))),
        ]


async def of_spending(c: Connection) -> list[str]:
    """At rest: no cap was exceeded, nothing is taken by calls that are over, and every text that was sent is counted once."""
    found = [
        f"{row['effect_key']} is over and still takes of {row['subject']}" for row in await c.all("select * from spend")
    ]
    for cap in await spending.everything(c):
        periods = await c.all("select period, used from usage where subject = :subject", subject=cap.subject)
        found += [f"{cap.about} and {row['used']} in {row['period']}" for row in periods if row["used"] > cap.most]
        if cap.unit == "messages":
            whose = "run.recipe" if cap.kind == "recipe" else "effect.connection"
            sent = await c.all(
                "select effect.key from effect join run on run.id = effect.run_id where effect.action = 'acme.send_text' "
                f"and effect.state in ('done', 'unknown') and {whose} = :target",
                target=cap.target,
            )
            if (used := sum(row["used"] for row in periods)) != len(sent):
                found.append(f"{cap.about}: {used} are counted and {len(sent)} were sent")
    return found


async def _untold(store: Store, told: Collection[str], crowd: Sequence[Person]) -> list[str]:
    """What a plugin wants to know and nobody told it: events, outcomes of effects, ends of runs."""
    async with store.read() as c:
        ours = {row["id"]: row["ended_by"] for runs in (await _runs(c, crowd)).values() for row in runs}
        effects = await c.all("select run_id, action, outcome from effect where outcome is not null")
        events = await c.all("select id from event where stage = 'routed' and type like 'acme.%'")
    wanted = [f"run {run_id} {ended_by}" for run_id, ended_by in ours.items()]
    wanted += [f"effect {row['run_id']} {row['action']} {row['outcome']}" for row in effects if row["run_id"] in ours]
    wanted += [f"event {row['id']}" for row in events]
    return [f"no plugin was told: {line}" for line in wanted if line not in told]


@dataclass
class Tally:
    """One action's effects: how many we recorded, how many of them happened, in how many calls, and what went wrong."""

    recorded: int = 0
    happened: int = 0
    calls: int = 0
    doubled: int = 0
    lost: int = 0
    unknown: int = 0


async def tally(store: Store, log: Sequence[Mapping[str, Any]], crowd: Sequence[Person]) -> dict[str, Tally]:
    """The effects by action, for people to read."""
    done = Counter(effect for entry in log for effect in _said(entry))
    async with store.read() as c:
        recorded = await _recorded(c)
    found: dict[str, Tally] = {}
    for person in crowd:
        for action, about in _EFFECTS:
            effect = (action, about.format(id=person.id))
            row, times, state = found.setdefault(action, Tally()), done[effect], recorded.get(effect)
            row.recorded += state is not None
            row.happened += times > 0
            row.calls += times
            row.doubled += times > 1 and action not in _REPEATABLE
            row.lost += state == "done" and not times
            row.unknown += state == "unknown"
    return found


async def _recorded(c: Connection) -> dict[Effect, str]:
    """The state of every effect we recorded."""
    rows = await c.all("select action, request, state from effect where action like 'acme.%'")
    return {_asked(row["action"], from_json(row["request"])["input"]): row["state"] for row in rows}


async def _deliveries(c: Connection, vendor: Vendor, crowd: Sequence[Person]) -> list[str]:
    """Acknowledged is stored, once."""
    rows = await c.all("select id from dedupe where id like 'delivery:%'")
    claimed = {row["id"].removeprefix("delivery:") for row in rows}
    lost = [f"{delivery} was acknowledged and is not stored" for delivery in sorted(vendor.acked - claimed)]
    events = await c.all("select type, data from event where type in ('acme.signed_up', 'acme.clicked')")
    stored = Counter((row["type"], from_json(row["data"])["id"]) for row in events)
    wrong = []
    for person in crowd:
        if stored["acme.signed_up", person.id] != 1:
            wrong.append(f"{person.id} signed up once, {stored['acme.signed_up', person.id]} events say so")
        if stored["acme.clicked", f"click-{person.id}"] > 1:
            wrong.append(f"{person.id} clicked once, more events say so")
    return lost + wrong


async def _of_runs(c: Connection, crowd: Sequence[Person]) -> list[str]:
    """One run per entry, which has work until it is finished, and ended as it should."""
    found = []
    for whose, runs in (await _runs(c, crowd)).items():
        if len(runs) != 1:
            found.append(f"{whose} entered once and has {len(runs)} runs")
        leaves = next(p.leaves for p in crowd if p.id == whose)
        ends = {"exit": {"done", "acme.purchased"}, "cancel": {"done", "cancelled"}}.get(leaves, {"done"})
        found += [f"{whose} ended by {r['ended_by']} ({r['status']})" for r in runs if r["ended_by"] not in ends]
    orphans = await c.all(
        "select id from run where finished_at is null and not exists (select 1 from work where kind = 'run' and ref = run.id)"
    )
    leftover = await c.all(
        "select ref from work where kind = 'run' and not exists "
        "(select 1 from run where run.id = work.ref and finished_at is null)"
    )
    found += [f"run {row['id']} is not finished and nobody will go on with it" for row in orphans]
    return found + [f"there is work for {row['ref']}, which is no live run" for row in leftover]


async def _of_merged(c: Connection, crowd: Sequence[Person]) -> list[str]:
    """Who was merged is one contact under both addresses, whose the run is."""
    found = []
    runs = await _runs(c, crowd)
    for person in (p for p in crowd if p.leaves == "merge"):
        ids = {
            (await c.first("select contact_id from identity where value = :value", value=value.lower()) or {}).get(
                "contact_id"
            )
            for value in (person.email, person.earlier)
        }
        ids |= {run["contact_id"] for run in runs.get(person.id, ())}
        if len(ids) != 1:
            found.append(f"{person.id} was merged and is {len(ids)} contacts")
    return found


async def _of_effects(c: Connection, log: Sequence[Mapping[str, Any]], crowd: Sequence[Person]) -> list[str]:
    """What the vendor did is what we say it did, and once where once was promised."""
    done = Counter(effect for entry in log for effect in _said(entry))
    recorded = await _recorded(c)
    reserved = {row["effect_key"] for row in await c.all("select effect_key from message where sent_at is not null")}
    texts = await c.all("select key, request from effect where action = 'acme.send_text' and state = 'done'")
    found = []
    for person in crowd:
        for action, about in _EFFECTS:
            effect = (action, about.format(id=person.id))
            found += _wrong(effect, done[effect], recorded.get(effect), stays=person.leaves in {"", "merge"})
    ours = {p.id for p in crowd}
    for row in texts:
        body = from_json(row["request"])["input"]["body"]
        if body.removesuffix(":text") in ours and row["key"] not in reserved:
            found.append(f"{body} was sent and is not counted as a message")
    return found


def _wrong(effect: Effect, times: int, state: str | None, *, stays: bool) -> list[str]:
    name = " ".join(effect)
    if times > 1 and effect[0] not in _REPEATABLE:
        return [f"{name}: {times} times"]
    if times and state not in {"done", "unknown"}:
        return [f"{name}: done at the vendor, recorded as {state}"]
    if not times and state == "done":
        return [f"{name}: recorded as done, the vendor knows nothing of it"]
    if stays and state != "done" and not (state == "unknown" and effect[0] in _MAY_BE_UNKNOWN):
        return [f"{name}: should have been done and is {state}"]
    if state in {"planned", "intended", "queued"}:
        return [f"{name}: its run has ended and it is still {state}"]
    return []


def _said(entry: Mapping[str, Any]) -> list[Effect]:
    """What the vendor's log says, per person."""
    data = entry["data"]
    if entry["operation"] == "add_members":
        return [("add_members", email) for email in data["people"]]
    return [(entry["operation"], data.get("key") or data["body"])]


def _asked(action: str, input_: Mapping[str, Any]) -> Effect:
    """What we recorded, in the same words."""
    about = next(input_[name] for name in ("key", "body", "email") if name in input_)
    return action.removeprefix("acme."), about


async def _of_the_queue(c: Connection) -> list[str]:
    """Nothing is overdue, waiting for what has come, or routed twice."""
    late_ms = int((time.time() - _LATE_S) * 1000)
    late = await c.all("select kind, ref, due_at from work where due_at < :late", late=late_ms)
    deaf = await c.all(
        "select w.run_id as run_id from waiter w join event_key k on k.type = w.type and k.key = w.key "
        "join event e on e.id = k.event_id where w.kind = 'answer' and e.received_at >= w.since"
    )
    parked = await c.all(
        "select ref, parked_on from work where parked_on is not null and due_at >= :never", never=NEVER_MS
    )
    odd = await c.all("select id, note from event where stage = 'quarantined'")
    return [
        *(f"{row['kind']} {row['ref']} is overdue" for row in late),
        *(f"run {row['run_id']} waits for an event that is there" for row in deaf),
        *(f"{row['ref']} is parked on {row['parked_on']}" for row in parked),
        *(f"event {row['id']} was set aside: {row['note']}" for row in odd),
    ]
