"""What people look at: runs, events, deliveries, contacts, with their reasons. JSON values; lists page by id, newest first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from pydantic_core import from_json

from hub import shown
from hub.catalogue import nearest
from hub.clock import rfc3339
from hub.errors import NotThere
from hub.events import e164
from hub.store import breakers, connections, contacts, erasures, histories, merges, recipes, subscriptions
from hub.store.session import Connection, Row
from hub.store.work import NEVER_MS

# What people see of a run's inner states.
_STATUS = {"acting": "running", "arming": "waiting"}


# How subscriptions stand before they were looked at.
NOT_YET = "not looked at yet"


def _when(ms: int | None) -> str | None:
    return rfc3339(ms) if ms is not None and ms < NEVER_MS - 1 else None


def run_view(row: Row) -> shown.RunLine:
    """A run in one line: `due_at` is when it goes on by itself, `reason` what it waits for or why it ended."""
    return {
        "id": row["id"],
        "recipe": row["recipe"],
        "version": row["version"],
        "contact": row["contact_id"],
        "status": _STATUS.get(row["status"]) or row["status"],
        "step": row["at_step"],
        "reason": row["reason"],
        "ended_by": row["ended_by"],
        "started_at": rfc3339(row["started_at"]),
        "finished_at": _when(row["finished_at"]),
        "due_at": _when(row["due_at"]),
    }


_RUNS = "select run.*, work.due_at as due_at from run left join work on work.kind = 'run' and work.ref = run.id"

# What is true of every run of a status as well, in the words of an index.
_FOUND_BY = {
    **dict.fromkeys(("ready", "running", "sleeping", "waiting"), "run.id in (select ref from work where kind = 'run')"),
    "parked": "run.id in (select ref from work where kind = 'run' and parked_on is not null)",
    "failed": "run.ended_by = 'failed'",
    "cancelled": "run.ended_by = 'cancelled'",
}


async def list_runs(
    c: Connection,
    *,
    recipe: str | None = None,
    status: str | None = None,
    contact: str | None = None,
    outcome: str | None = None,
    before: str | None = None,
    most: int = 50,
) -> list[shown.RunLine]:
    """Runs, newest first; `before` is the id to go on from. With `outcome` those that have an effect of this state.

    Raises NotThere for a recipe that there is not.
    """
    inner = [name for name, shown_as in _STATUS.items() if shown_as == status] + [status]
    tests = {
        "run.recipe = :recipe": recipe,
        "run.contact_id = :contact": contact,
        "run.id < :before": before,
        "run.id in (select run_id from effect where state = :outcome)": outcome,
        f"run.status in ({', '.join(f':s{n}' for n in range(len(inner)))})": status,
    }
    where = [test for test, given in tests.items() if given is not None]
    where += [_FOUND_BY[status]] if status in _FOUND_BY else []
    given = {"recipe": recipe, "contact": contact, "before": before, "outcome": outcome} | {
        f"s{n}": s for n, s in enumerate(inner)
    }
    used = {name: value for name, value in given.items() if any(f":{name}" in test for test in where)}
    only = f"where {' and '.join(where)}" if where else ""
    rows = await c.all(f"{_RUNS} {only} order by run.id desc limit :most", most=most, **used)
    if recipe is not None and not rows:
        await require_recipe(c, recipe)
    return [run_view(row) for row in rows]


async def require_recipe(c: Connection, name: str) -> None:
    """Raise NotThere with the nearest name when there is no such recipe."""
    if await c.first("select 1 as known from recipe where name = :name", name=name) is None:
        known = [row["name"] for row in await c.all("select name from recipe order by name limit 1000")]
        raise NotThere(f"there is no recipe {name}{nearest(name, known)}; `hub recipes list` shows what there is")


async def require_run(c: Connection, run_id: str) -> None:
    """Raise NotThere when there is no such run."""
    if await c.first("select 1 as known from run where id = :id", id=run_id) is None:
        raise _no_run(run_id)


def _no_run(run_id: str) -> NotThere:
    return NotThere(f"there is no run {run_id}; `hub runs list` shows what there is")


async def show_run(c: Connection, run_id: str) -> shown.Run:
    """One run with every step's reason, its effects, and what it waits for. Raises NotThere."""
    row = await c.first(f"{_RUNS} where run.id = :id", id=run_id)
    if row is None:
        raise _no_run(run_id)
    steps = await c.all("select * from step where run_id = :id order by seq", id=run_id)
    effects = await c.all("select * from effect where run_id = :id order by intended_at, key", id=run_id)
    waiters = await c.all("select * from waiter where run_id = :id order by n", id=run_id)
    return {
        **run_view(row),
        "trigger": from_json(row["trigger_data"]),
        "steps": [
            {
                "step": s["step_id"],
                "path": s["path"],
                "kind": s["kind"],
                "outcome": s["outcome"],
                "reason": s["reason"],
                "at": rfc3339(s["at"]),
            }
            for s in steps
        ],
        "effects": [effect_view(e) for e in effects],
        "waits_for": [{"kind": w["kind"], "name": w["name"], "event": w["type"]} for w in waiters],
    }


def effect_view(row: Row) -> shown.Effect:
    """An effect: what was asked for, in which state it is, and why."""
    return {
        "step": row["step_id"],
        "action": row["action"],
        "connection": row["connection"],
        "state": row["state"],
        "reason": row["reason"],
        "attempts": row["attempts"],
        "input": from_json(row["request"])["input"],
        "output": from_json(row["response"]) if row["response"] else None,
        "intended_at": rfc3339(row["intended_at"]),
        "finished_at": _when(row["finished_at"]),
    }


def event_view(row: Row) -> shown.EventLine:
    """An event in one line."""
    return {
        "id": row["id"],
        "type": row["type"],
        "connection": row["connection"],
        "contact": row["contact_id"],
        "stage": row["stage"],
        "note": row["note"],
        "duplicates": row["duplicates"],
        "occurred_at": rfc3339(row["occurred_at"]),
        "received_at": rfc3339(row["received_at"]),
    }


_EVENTS = "select event.*, connection.name as connection from event left join connection on connection.id = event.connection_id"


async def list_events(
    c: Connection,
    *,
    type_: str | None = None,
    stage: str | None = None,
    before: str | None = None,
    most: int = 50,
    installed: Callable[[], Iterable[str]] = tuple,
) -> list[shown.EventLine]:
    """Events, newest first, without their data. `installed` gives the types that triggers have, where it matters.

    Raises NotThere for a type that no trigger has and no event is of.
    """
    tests = {"event.type = :type": type_, "event.stage = :stage": stage, "event.id < :before": before}
    where = " and ".join(test for test, given in tests.items() if given is not None)
    given = {k: v for k, v in {"type": type_, "stage": stage, "before": before}.items() if v is not None}
    rows = await c.all(
        f"{_EVENTS} {f'where {where}' if where else ''} order by event.id desc limit :most", most=most, **given
    )
    if type_ is not None and not rows:
        await _require_type(c, type_, installed())
    return [event_view(row) for row in rows]


async def _require_type(c: Connection, type_: str, installed: Iterable[str]) -> None:
    """Raise NotThere unless a trigger has this type, or an event is of it that came from a plugin no longer there."""
    known = set(installed)
    if type_ in known or await c.first("select 1 as known from event where type = :type limit 1", type=type_):
        return
    newest = "select type from event order by id desc limit 1000"
    known |= {row["type"] for row in await c.all(f"select distinct type from ({newest}) as newest")}
    raise NotThere(f"there is no event type {type_}{nearest(type_, known)}; `hub plugins` lists them")


async def show_event(c: Connection, event_id: str) -> shown.Event:
    """One event with its data, the runs it started, and why it started none of others. Raises NotThere."""
    row = await c.first(f"{_EVENTS} where event.id = :id", id=event_id)
    if row is None:
        raise NotThere(f"there is no event {event_id}; `hub events list` shows what there is")
    # A run that an event started is one of its person's; without a person there is one of each recipe at most.
    whose = (
        "run.contact_id = :contact and run.entry_key like :key || '%'"
        if row["contact_id"]
        else "run.recipe in (select name from recipe) and run.entry_key = :key"
    )
    given = {"contact": row["contact_id"]} if row["contact_id"] else {}
    started = await c.all(f"{_RUNS} where {whose} order by run.id", key=f"ev:{event_id}:", **given)
    verdicts = await c.all("select * from verdict where event_id = :id order by recipe", id=event_id)
    return {
        **event_view(row),
        "data": from_json(row["data"]),
        "started": [run_view(r) for r in started],
        "not_started": [_verdict_view(v) for v in verdicts],
    }


def _verdict_view(row: Row) -> shown.Verdict:
    return {
        "recipe": row["recipe"],
        "event": row["event_id"],
        "outcome": row["outcome"],
        "reason": row["reason"],
        "at": rfc3339(row["at"]),
    }


def delivery_view(row: Row) -> shown.Delivery:
    """A delivery without its body: `state` is accepted, unrecognised or unreadable, `note` says why."""
    return {
        "id": row["id"],
        "connector": row["connector"],
        "topic": row["topic"],
        "state": row["state"],
        "note": row["note"],
        "bytes": row["bytes"],
        "received_at": rfc3339(row["received_at"]),
    }


def refusal_view(row: Row) -> shown.Refusal:
    """Calls refused at one address for one reason within one minute."""
    return {
        "connector": row["connector"],
        "key_hash": row["key_hash"],
        "reason": row["reason"],
        "count": row["count"],
        "minute": rfc3339(row["minute"] * 60_000),
        "samples": from_json(row["samples"]),
    }


async def list_recipes(c: Connection, *, after: str | None = None, most: int | None = None) -> list[shown.RecipeLine]:
    """Recipes by name, at most so many of those after a name."""
    return [
        {
            "name": row["name"],
            "state": row["state"],
            "version": row["version"],
            "draft": row["draft"] is not None,
            "updated_at": rfc3339(row["updated_at"]),
        }
        for row in await recipes.listed(c, after=after, most=most)
    ]


async def list_connections(c: Connection, address: str, *, kept_ms: int = 0) -> list[shown.Connection]:
    """Every connection by name, with what is not quite well with it; `address` is the hub's own, '' without one.

    Of what happened before `kept_ms` events are no longer kept, so that nothing is known of it.
    """
    rests, known = await breakers.everything(c), await histories.known_since(c)
    _, rows = await connections.everything(c)
    subscribed = await subscriptions.rows(c)
    found: list[shown.Connection] = []
    for row in rows:
        rest = rests.get(row["name"])
        health, reason = row["health"], row["health_reason"]
        if health == "ok" and rest is not None:
            health, reason = "resting", f"until {rfc3339(rest.until_ms)}: {rest.reason}"
        inbound = f"/webhooks/{row['connector']}/{row['inbound_key']}"
        found.append(
            {
                "id": row["id"],
                "name": row["name"],
                "connector": row["connector"],
                "account": row["account"],
                "mode": row["mode"],
                "auth": row["auth"],
                "settings": from_json(row["settings"]),
                "health": health,
                "health_reason": reason,
                "webhook_url": f"{address.rstrip('/')}{inbound}" if address else "",
                "connected_at": rfc3339(row["created_at"]),
                "known_since": {
                    type_: rfc3339(max(since, kept_ms)) for type_, since in known.get(row["id"], {}).items()
                },
                "subscriptions": standing(subscribed[row["name"]]) if row["name"] in subscribed else None,
            }
        )
    return found


def standing(row: subscriptions.Row) -> str:
    """How a connection's subscriptions stand, in a line."""
    kept = row.kept
    if problem := trouble(row):
        return problem
    if kept.at_ms is None:
        return NOT_YET
    return f"{len(kept.wanted)} kept, looked at {rfc3339(kept.at_ms)}"


def trouble(row: subscriptions.Row) -> str | None:
    """What is wrong with a connection's subscriptions; None when nothing is."""
    if row.parked_on is not None:
        kind, _, name = row.parked_on.partition(":")
        return f"they wait for the plugin {name}" if kind == "plugin" else "they wait until it is authorised again"
    return row.kept.problem


async def show_subscriptions(c: Connection, connection: str) -> shown.Subscriptions:
    """A connection's subscriptions as they were found and mended last. Raises NotThere."""
    found = (await subscriptions.rows(c, connection)).get(connection)
    if found is None:
        names = [row["name"] for row in (await connections.everything(c))[1]]
        if connection not in names:
            raise NotThere(
                f"there is no connection {connection}{nearest(connection, names)}; `hub connections list` shows what there is"
            )
        raise NotThere(
            f"the connector of {connection} subscribes to nothing, or no hub has run since it does: give the vendor the "
            "address that `hub connections list` shows"
        )
    kept = found.kept
    there = {one.topic for one in kept.held}
    return {
        "connection": connection,
        "address": kept.address or None,
        "wanted": kept.wanted,
        "there": [{"id": one.id, "topic": one.topic, "expires_at": _when(one.expires_at_ms)} for one in kept.held],
        "missing": [topic for topic in kept.wanted if topic not in there],
        "mended": [
            {"topic": one.topic, "deed": one.deed, "why": one.why, "at": rfc3339(one.at_ms)} for one in kept.mended
        ],
        "looked_at": _when(kept.at_ms),
        "next_at": _when(found.due_ms),
        "problem": trouble(found),
    }


async def find_contact(c: Connection, name: str) -> str:
    """The id of the contact with this id, e-mail address or phone number; of one that was merged the id of whom it was merged
    into. Raises NotThere."""
    row = await c.first("select id from contact where id = :id", id=name)
    row = row or await c.first(
        "select contact_id as id from identity where kind in ('email', 'phone') and value in (:plain, :phone)",
        plain=name.strip().lower(),
        phone=e164(name) or name,
    )
    if row is None and (kept := await merges.standing_for(c, name)):
        return kept
    if row is None:
        raise NotThere("nobody is known by this id, e-mail address or phone number; `hub contacts list` shows who is")
    return str(row["id"])


async def list_contacts(c: Connection, *, before: str | None = None, most: int = 50) -> list[shown.Person]:
    """People, newest first; `before` is the id to go on from."""
    test, given = ("where id < :before", {"before": before}) if before is not None else ("", {})
    rows = await c.all(f"select id from contact {test} order by id desc limit :most", most=most, **given)
    ids = [str(row["id"]) for row in rows]
    known = await contacts.facts(c, ids)
    return [_person(known[id_]) for id_ in ids if id_ in known]


async def show_contact(c: Connection, contact_id: str, *, most: int = 50) -> shown.Contact:
    """A person: identities, consent, the newest runs, messages, and why they did not enter recipes. Raises NotThere."""
    known = (await contacts.facts(c, [contact_id])).get(contact_id)
    if known is None:
        raise NotThere(
            "there is no contact with this id; `hub contacts show` takes an e-mail address or phone number, too"
        )
    keys = (await contacts.identities(c, [contact_id])).get(contact_id, [])
    rows = await c.all(f"{_RUNS} where run.contact_id = :id order by run.id desc limit :most", id=contact_id, most=most)
    verdicts = await c.all(
        "select * from verdict where contact_id = :id order by at desc limit :most", id=contact_id, most=most
    )
    messages = await c.all(
        "select message.*, effect.state as state, effect.reason as reason from message "
        "join effect on effect.key = message.effect_key where message.contact_id = :id order by reserved_at desc limit :most",
        id=contact_id,
        most=most,
    )
    # What was read of the past came all at once: it must not push out what happened since.
    seen = [
        row
        for stages in ("<>", "=")
        for row in await c.all(
            f"{_EVENTS} where event.contact_id = :id and event.stage {stages} 'history' "
            "order by event.received_at desc limit :most",
            id=contact_id,
            most=most,
        )
    ]
    consent = await _consent_view(c, keys)
    sent: list[shown.Message] = [
        {
            "channel": m["channel"],
            "purpose": m["purpose"],
            "recipe": m["recipe"],
            "state": m["state"],
            "reason": m["reason"],
            "at": rfc3339(m["sent_at"] or m["reserved_at"]),
        }
        for m in messages
    ]
    ran, refused = [run_view(row) for row in rows], [_verdict_view(v) for v in verdicts]
    asked = [_forgetting_view(row) for row in (await erasures.asked_of(c, contact_id)).values()]
    merged = [_merge_view(row) for row in await merges.of_contact(c, contact_id)]
    return {
        **_person(known),
        "identities": [{"kind": kind, "value": value} for kind, value in keys],
        "consent": consent,
        "runs": ran,
        "messages": sent,
        "not_started": refused,
        "forgetting": asked,
        "merges": merged,
        "timeline": _timeline([event_view(row) for row in seen], ran, sent, consent, refused, asked, merged),
    }


def _timeline(
    seen: Iterable[shown.EventLine],
    ran: Iterable[shown.RunLine],
    sent: Iterable[shown.Message],
    consent: Iterable[shown.Consent],
    refused: Iterable[shown.Verdict],
    asked: Iterable[shown.Forgetting],
    merged: Iterable[shown.Merge],
) -> list[shown.Moment]:
    """All of it in one list, the newest first."""
    moments = [
        _moment(
            e["occurred_at"] if e["stage"] == "history" else e["received_at"], "event", e["type"], e["note"], e["id"]
        )
        for e in seen
    ]
    for run in ran:
        moments.append(_moment(run["started_at"], "run started", run["recipe"], None, run["id"]))
        if run["finished_at"]:
            ended = f"{run['ended_by']}: {run['reason']}"
            moments.append(_moment(run["finished_at"], "run ended", run["recipe"], ended, run["id"]))
    moments += [
        _moment(m["at"], "message", f"{m['channel']} {m['purpose']}", _and(m["state"], m["reason"])) for m in sent
    ]
    moments += [
        _moment(s["at"], "consent", f"{s['channel']} {s['purpose']}", _and(s["state"], s["reason"])) for s in consent
    ]
    moments += [_moment(v["at"], "not started", v["recipe"], v["reason"], v["event"]) for v in refused]
    for one in asked:
        moments.append(_moment(one["asked_at"], "forget", one["connection"], "asked"))
        if one["done_at"]:
            moments.append(_moment(one["done_at"], "forget", one["connection"], "done"))
    for merge in merged:
        about = f"{merge['other']} into {merge['kept']}"
        moments.append(_moment(merge["at"], "merged", about, f"by {merge['who']}", merge["id"]))
        if merge["undone_at"]:
            moments.append(_moment(merge["undone_at"], "unmerged", about, None, merge["id"]))
    # What happens in one instant happens in this order.
    order = ("event", "consent", "not started", "run started", "message", "run ended", "forget", "merged", "unmerged")
    return sorted(moments, key=lambda m: (m["at"], order.index(m["what"])), reverse=True)


def _moment(at: str, what: str, about: str, reason: str | None, id_: str | None = None) -> shown.Moment:
    return {"at": at, "what": what, "about": about, "reason": reason, "id": id_}


def _and(state: str, reason: str | None) -> str:
    return f"{state}: {reason}" if reason else state


def _forgetting_view(row: Row) -> shown.Forgetting:
    return {
        "connection": row["connection"],
        "asked_at": rfc3339(row["asked_at"]),
        "done_at": _when(row["done_at"]),
    }


def _merge_view(row: Row) -> shown.Merge:
    before = from_json(row["before"])
    return {
        "id": row["id"],
        "kept": row["kept"],
        "other": row["other"],
        "who": row["who"],
        "at": rfc3339(row["at"]),
        "undone_at": _when(row["undone_at"]),
        "other_was": {name: value for name, value in before.get("other", {}).items() if name != "created_at"},
        "identities": [{"kind": kind, "value": value} for kind, value, _ in before.get("identities", ())],
    }


def erasure_view(row: Row) -> shown.Erasure:
    """An erasure, and how many connections have forgotten whom it was about."""
    return {
        "id": row["id"],
        "kind": row["kind"],
        "state": row["state"],
        "reason": row["reason"],
        "who": row["who"],
        "event": row["event_id"],
        "note": row["note"],
        "counts": from_json(row["counts"]),
        "connections_done": row["forgot"],
        "connections_pending": row["asked"] - row["forgot"],
        "at": rfc3339(row["at"]),
        "finished_at": _when(row["finished_at"]),
    }


def export_request_view(row: Row) -> shown.ExportRequest:
    """What somebody asked to know of themselves."""
    return {
        "id": row["id"],
        "contact": row["contact_id"],
        "connection": row["connection"],
        "event": row["type"],
        "state": row["state"],
        "who": row["who"],
        "at": rfc3339(row["at"]),
        "answered_at": _when(row["answered_at"]),
    }


async def events_of(
    c: Connection, contact_id: str, after: tuple[int, str], most: int
) -> list[tuple[Row, shown.WholeEvent]]:
    """A person's next events with their data, in the order in which they came, after an instant and id; with their rows."""
    rows = await c.all(
        f"{_EVENTS} where event.contact_id = :contact and (event.received_at > :at "
        "or (event.received_at = :at and event.id > :id)) order by event.received_at, event.id limit :most",
        contact=contact_id,
        at=after[0],
        id=after[1],
        most=most,
    )
    return [(row, {**event_view(row), "data": from_json(row["data"])}) for row in rows]


def _person(known: Mapping[str, Any]) -> shown.Person:
    return {
        "id": known["id"],
        "email": known["email"],
        "phone": known["phone"],
        "first_name": known["first_name"],
        "last_name": known["last_name"],
        "language": known["language"],
        "zone": known["zone"],
        "tags": known["tags"],
        "attributes": known["attributes"],
    }


async def _consent_view(c: Connection, keys: Iterable[tuple[str, str]]) -> list[shown.Consent]:
    channels = {"email": ("email",), "phone": ("sms", "whatsapp", "voice")}
    addresses = [(channel, value) for kind, value in keys for channel in channels.get(kind, ())]
    ledger = await contacts.ledger(c, addresses)
    return [
        {
            "channel": channel,
            "address": address,
            "purpose": row["purpose"],
            "state": row["state"],
            "reason": row["reason"],
            "source": row["source"],
            "at": rfc3339(row["at"]),
        }
        for (channel, address), rows in ledger.items()
        for row in rows
    ]


async def counts(c: Connection) -> shown.Counts:
    """How much of everything there is: events, duplicates, refusals, runs by status, effects by state."""
    events = await c.first("select count(*) as n, coalesce(sum(duplicates), 0) as duplicates from event")
    refused = await c.first("select coalesce(sum(count), 0) as n from refusal")
    by_status = await c.all("select status, count(*) as n from run group by status order by status")
    ended = await c.all(
        "select ended_by, count(*) as n from run where ended_by is not null group by ended_by order by ended_by"
    )
    by_state = await c.all("select state, count(*) as n from effect group by state order by state")
    deliveries = await c.all("select state, count(*) as n from delivery group by state order by state")
    assert events is not None, "an aggregate always has a row"
    assert refused is not None, "an aggregate always has a row"
    return {
        "events": int(events["n"]),
        "duplicates": int(events["duplicates"]),
        "refused": int(refused["n"]),
        "deliveries": _by(deliveries, "state"),
        "runs": _by(by_status, "status"),
        "ended_by": _by(ended, "ended_by"),
        "effects": _by(by_state, "state"),
    }


def _by(rows: Sequence[Row], name: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for row in rows:
        word = _STATUS.get(str(row[name]), str(row[name]))
        found[word] = found.get(word, 0) + int(row["n"])
    return found
