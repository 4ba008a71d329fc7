"""People as people see them: who they are, what they agreed to, what was done; and that it was exported or erased."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic_core import from_json

from hub import shown
from hub.clock import rfc3339
from hub.errors import NotThere
from hub.events import addresses, e164
from hub.store import contacts, erasures, merges
from hub.store.session import Connection, Row
from hub.store.views.events import EVENTS, event_view, verdict_view
from hub.store.views.runs import RUNS, run_view
from hub.store.views.words import when


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
    rows = await c.all(f"{RUNS} where run.contact_id = :id order by run.id desc limit :most", id=contact_id, most=most)
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
            f"{EVENTS} where event.contact_id = :id and event.stage {stages} 'history' "
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
    ran, refused = [run_view(row) for row in rows], [verdict_view(v) for v in verdicts]
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
    ledger = await contacts.ledger(c, addresses(keys))
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


def _forgetting_view(row: Row) -> shown.Forgetting:
    return {
        "connection": row["connection"],
        "asked_at": rfc3339(row["asked_at"]),
        "done_at": when(row["done_at"]),
    }


def _merge_view(row: Row) -> shown.Merge:
    before = from_json(row["before"])
    return {
        "id": row["id"],
        "kept": row["kept"],
        "other": row["other"],
        "who": row["who"],
        "at": rfc3339(row["at"]),
        "undone_at": when(row["undone_at"]),
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
        "finished_at": when(row["finished_at"]),
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
        "answered_at": when(row["answered_at"]),
    }
