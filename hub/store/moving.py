"""T12: what is one contact's becomes another's, and goes back. The caller has locked both (`lock`).

What of each table is a contact's, and what a merge does with it:

- `contact`: the kept one fills in what it does not know; the other one's row goes, and is written down.
- `identity`: moves, as added now, so that the kept one's first address stays the first.
- `event`, `message`, `verdict`, `export_request`: move; which ones is written down.
- `run`: moves; of a run that goes on also the scope and entry key, where they name the contact, and its `waiter`s.
- `work` of runs: who has one in hand is fenced off, since they know it as the other one's.
- `entry`: the times of both are one list; what each had is written down.
- `forgetting`, and its `work`: whom vendors are to forget is asked for again under the kept one's name.
- `contact_merge`: nothing moves; who was merged into the other one is found through it.
- `event_key`, `consent`, `tombstone`, `dedupe` go by addresses and facts, `step`, `effect`, `spend` by runs, `usage` and
  `cap` by connections and recipes, `erasure` by nothing that is left of a person: they are as they were.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json, to_json

from hub.events import Json
from hub.store import contacts, erasures, merges
from hub.store.session import Connection, Row

_FIELDS = ("first_name", "last_name", "language", "zone")
# What moves as it is: the kind it is written down as, its table, and what names a row.
_KINDS = (
    ("run", "run", "id"),
    ("event", "event", "id"),
    ("message", "message", "effect_key"),
    ("verdict", "verdict", "event_id"),
    ("request", "export_request", "id"),
)


@dataclass(frozen=True)
class LiveRun:
    """A run that goes on: whose, since when, whether a message of it has left or is about to, and the version's `entry`."""

    id: str
    recipe: str
    contact_id: str
    scope: str
    started_at_ms: int
    sent: bool
    entry: Json


async def lock(c: Connection, contact_ids: Sequence[str]) -> dict[str, Row]:
    """Lock contacts; their rows by id. Their events that are routed again come first, as they do for whoever routes them."""
    await c.group(
        f"select id from event where contact_id in (select id from {{rows}}) and stage = 'route' order by id {c.for_update}",
        {"id": "text"},
        [{"id": id_} for id_ in contact_ids],
    )
    return await contacts.lock(c, contact_ids)


_LIVE = """
select run.id as id, run.recipe as recipe, run.contact_id as contact_id, run.scope as scope, run.started_at as started_at,
exists (select 1 from effect join message on message.effect_key = effect.key where effect.run_id = run.id) as sent,
(select definition from recipe_version where recipe_version.recipe = run.recipe and recipe_version.version = run.version)
as definition from run where run.contact_id in (select id from {rows}) and run.finished_at is null and run.stop is null
order by run.id
"""


async def live_runs(c: Connection, contact_ids: Sequence[str], *, locked: bool = True) -> list[LiveRun]:
    """The runs of contacts that go on and nobody has stopped, with their work locked unless they are only looked at."""
    given = [{"id": id_} for id_ in contact_ids]
    if locked:
        await c.group(
            "select ref from work where kind = 'run' and ref in (select run.id from run where run.contact_id in "
            f"(select id from {{rows}}) and run.finished_at is null) order by ref {c.for_update}",
            {"id": "text"},
            given,
        )
    rows = await c.group(_LIVE, {"id": "text"}, given)
    return [
        LiveRun(
            row["id"],
            row["recipe"],
            row["contact_id"],
            row["scope"],
            row["started_at"],
            bool(row["sent"]),
            from_json(row["definition"]).get("entry") if row["definition"] else None,
        )
        for row in rows
    ]


async def waiters(c: Connection, run_ids: Sequence[str], contact_id: str) -> list[Row]:
    """What these runs wait for of a contact, with what started each; exits first."""
    rows = await c.group(
        "select waiter.*, run.trigger_data as trigger_data from waiter join run on run.id = waiter.run_id "
        "where waiter.run_id in (select id from {rows}) and waiter.key = 'contact=' || cast(:contact as text) "
        "order by waiter.kind <> 'exit', waiter.run_id, waiter.n",
        {"id": "text"},
        [{"id": id_} for id_ in run_ids],
        contact=contact_id,
    )
    return list(rows)


async def entries(c: Connection, contact_id: str) -> dict[str, list[int]]:
    """When somebody entered the recipes that count entries per contact."""
    rows = await c.all("select recipe, times from entry where scope = :scope", scope=contact_id)
    return {row["recipe"]: from_json(row["times"]) for row in rows}


async def counts(c: Connection, contact_id: str) -> dict[str, int]:
    """How much a contact has that would move."""
    found: dict[str, int] = {}
    for kind, table, key in (("identity", "identity", "value"), *_KINDS):
        row = await c.first(f"select count({key}) as n from {table} where contact_id = :contact", contact=contact_id)
        assert row is not None, "an aggregate always has a row"
        found[kind] = int(row["n"])
    return found


# -- there -------------------------------------------------------------------------------------------------------------


async def move(c: Connection, id_: str, kept: Row, other: Row, *, who: str, at_ms: int) -> None:
    """Everything of `other` is `kept`'s, under a merge of this id; both rows are locked."""
    names = {"kept": kept["id"], "other": other["id"]}
    identities = await c.all(
        "select kind, value, added_at from identity where contact_id = :contact", contact=other["id"]
    )
    before: dict[str, Json] = {
        "kept": _known(kept),
        "other": _known(other),
        "identities": [[row["kind"], row["value"], row["added_at"]] for row in identities],
        "entries": {side: await entries(c, names[side]) for side in names},
        "forgetting": {side: sorted(await erasures.asked_of(c, names[side])) for side in names},
    }
    for kind, table, key in _KINDS:
        await c.run(
            f"insert into contact_merge_row (merge_id, kind, ref) select distinct cast(:id as text), '{kind}', {key} "
            f"from {table} where contact_id = :contact",
            id=id_,
            contact=other["id"],
        )
    await merges.write(c, id_, kept["id"], other["id"], who=who, at_ms=at_ms, before=before)
    await _move_runs(c, id_, other["id"], kept["id"], at_ms)
    for _, table, _ in _KINDS:
        await _rename(c, table, other["id"], kept["id"])
    await c.run("update identity set contact_id = :kept, added_at = :at where contact_id = :other", at=at_ms, **names)
    await _join_entries(c, before["entries"], kept["id"], other["id"])
    await _ask_again(c, other["id"], kept["id"], before["forgetting"]["other"], at_ms, leave=())
    await _write(c, kept["id"], _filled(_known(kept), _known(other)))
    await c.run("delete from contact where id = :contact", contact=other["id"])


async def _rename(c: Connection, table: str, old: str, new: str, among: str = "", **given: Any) -> None:
    await c.run(f"update {table} set contact_id = :new where contact_id = :old {among}", old=old, new=new, **given)


_MOVED = "in (select ref from contact_merge_row where merge_id = :id and kind = '{kind}')"


async def _move_runs(c: Connection, id_: str, old: str, new: str, now_ms: int) -> None:
    """The runs that a merge names are another contact's: their scopes, entry keys and waiters, and whoever has one in hand.

    An event that started a run for both of them, which takes a merge in between, keeps both keys.
    """
    moved = _MOVED.format(kind="run")
    given = {"id": id_, "old": old, "new": new}
    # One with a call under way is left until its lease is over: by then what came of the call is written.
    calling = "exists (select 1 from effect where effect.run_id = work.ref and effect.state = 'intended')"
    await c.run(
        f"update work set epoch = epoch + 1, due_at = case when {calling} then due_at else cast(:now as bigint) end, "
        f"owner = case when {calling} then owner end "
        f"where kind = 'run' and owner is not null and parked_on is null and ref {moved}",
        id=id_,
        now=now_ms,
    )
    key = "substr(run.entry_key, 1, length(run.entry_key) - length(cast(:old as text))) || cast(:new as text)"
    await c.run(
        f"update run set entry_key = {key} where id {moved} and contact_id = :old and entry_key like '%:' || :old "
        f"and not exists (select 1 from run same where same.recipe = run.recipe and same.entry_key = {key})",
        **given,
    )
    await c.run(
        f"update run set contact_id = :new, scope = case when scope = :old then :new else scope end "
        f"where id {moved} and contact_id = :old",
        **given,
    )
    await c.run(
        f"update waiter set key = 'contact=' || :new where run_id {moved} and key = 'contact=' || :old", **given
    )


async def _join_entries(c: Connection, had: Mapping[str, Mapping[str, Sequence[int]]], kept: str, other: str) -> None:
    for recipe, times in had["other"].items():
        await _enter(c, recipe, kept, sorted([*had["kept"].get(recipe, ()), *times]))
    await c.run("delete from entry where scope = :scope", scope=other)


async def _enter(c: Connection, recipe: str, scope: str, times: Sequence[int]) -> None:
    await c.run(
        "insert into entry (recipe, scope, times) values (:recipe, :scope, :times) "
        "on conflict (recipe, scope) do update set times = excluded.times",
        recipe=recipe,
        scope=scope,
        times=to_json(list(times)).decode(),
    )


async def _ask_again(
    c: Connection, old: str, new: str, names: Sequence[str], now_ms: int, *, leave: Sequence[str]
) -> None:
    """What connections were asked to forget of one contact they are asked of another; `leave` stays with the first, too."""
    asked = {name: row for name, row in (await erasures.asked_of(c, old)).items() if name in names}
    await erasures.ask(c, new, [name for name, row in asked.items() if row["done_at"] is None], now_ms)
    await c.group(
        "insert into forgetting (owner, connection, asked_at, done_at) select owner, connection, asked_at, done_at "
        "from {rows} where true on conflict (owner, connection) do nothing",
        {"owner": "text", "connection": "text", "asked_at": "bigint", "done_at": "bigint"},
        [{**row, "owner": new} for row in asked.values() if row["done_at"] is not None],
    )
    await erasures.unask(c, old, [name for name in asked if name not in leave])


# -- and back ----------------------------------------------------------------------------------------------------------

# What began since out of what goes back goes with it: a run of an event that is replayed, a run that is retried.
_ALONG = """
insert into contact_merge_row (merge_id, kind, ref) select cast(:id as text), 'run', run.id from run
where run.contact_id = :kept and run.started_at >= :since and (run.retry_of in (
select ref from contact_merge_row where merge_id = :id and kind = 'run') or exists (select 1 from contact_merge_row
where merge_id = :id and kind = 'event' and run.entry_key = 'ev:' || ref || ':' || :kept)) on conflict do nothing
"""


async def move_back(c: Connection, merge: Row, kept: Row, *, at_ms: int) -> dict[str, int]:
    """What a merge moved goes back; what came since stays. The kept contact's row is locked. Returns how much stays."""
    before = from_json(merge["before"])
    given = {"id": merge["id"], "kept": merge["kept"]}
    other = {"id": merge["other"], "kept": merge["kept"]}
    await c.run(_ALONG, since=merge["at"], **given)
    await c.run("insert into contact (id, tags, attributes, created_at) values (:id, '[]', '{}', 0)", id=merge["other"])
    await _write(c, merge["other"], before["other"])
    await _move_runs(c, merge["id"], merge["kept"], merge["other"], at_ms)
    in_runs = f"effect_key in (select key from effect where run_id {_MOVED.format(kind='run')})"
    for kind, table, key in _KINDS:
        test = f"{key} {_MOVED.format(kind=kind)}"
        more = {"message": in_runs, "verdict": f"event_id {_MOVED.format(kind='event')}"}.get(kind)
        among = f"and ({test} or {more})" if more else f"and {test}"
        await _rename(c, table, merge["kept"], merge["other"], among, id=merge["id"])
    await c.group(
        "update identity set contact_id = :id, added_at = r.added_at from {rows} "
        "where identity.kind = r.kind and identity.value = r.value and identity.contact_id = :kept",
        {"kind": "text", "value": "text", "added_at": "bigint"},
        [{"kind": kind, "value": value, "added_at": added_at} for kind, value, added_at in before["identities"]],
        **other,
    )
    now = await entries(c, merge["kept"])
    for recipe, times in before["entries"]["other"].items():
        had = before["entries"]["kept"].get(recipe, [])
        since = (Counter(now.get(recipe, ())) - Counter(had) - Counter(times)).elements()
        await _enter(c, recipe, merge["kept"], sorted([*had, *since]))
        await _enter(c, recipe, merge["other"], times)
    asked = before["forgetting"]
    await _ask_again(c, merge["kept"], merge["other"], asked["other"], at_ms, leave=asked["kept"])
    await _write(c, merge["kept"], _emptied(_known(kept), before["kept"], before["other"]))
    await merges.undone(c, merge["id"], at_ms)
    return {
        "events": await _since(c, "event", "received_at", merge),
        "runs": await _since(c, "run", "started_at", merge),
    }


async def _since(c: Connection, table: str, at: str, merge: Row) -> int:
    row = await c.first(
        f"select count(*) as n from {table} where contact_id = :kept and {at} >= :since",
        kept=merge["kept"],
        since=merge["at"],
    )
    assert row is not None, "an aggregate always has a row"
    return int(row["n"])


# -- what is known of a contact ----------------------------------------------------------------------------------------


def _known(row: Row) -> dict[str, Any]:
    return {
        **{name: row[name] for name in _FIELDS},
        "tags": from_json(row["tags"]),
        "attributes": from_json(row["attributes"]),
        "created_at": row["created_at"],
    }


def _filled(kept: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of both: the kept one's word counts, the other one's fills what is missing, and tags unite."""
    attributes = {**other["attributes"], **{k: v for k, v in kept["attributes"].items() if v is not None}}
    return {
        **{name: kept[name] if kept[name] is not None else other[name] for name in _FIELDS},
        "tags": [*kept["tags"], *(tag for tag in other["tags"] if tag not in kept["tags"])],
        "attributes": {**kept["attributes"], **attributes},
        "created_at": min(kept["created_at"], other["created_at"]),
    }


def _emptied(now: Mapping[str, Any], kept: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of the kept one without what the other one filled in; what was learnt since stays."""
    filled = _filled(kept, other)
    attributes = dict(now["attributes"])
    for name, value in filled["attributes"].items():
        if kept["attributes"].get(name) != value and attributes.get(name) == value:
            attributes.pop(name)
            attributes |= {name: kept["attributes"][name]} if name in kept["attributes"] else {}
    return {
        **{name: kept[name] if now[name] == filled[name] else now[name] for name in _FIELDS},
        "tags": [tag for tag in now["tags"] if tag in kept["tags"] or tag not in other["tags"]],
        "attributes": attributes,
        "created_at": kept["created_at"],
    }


async def _write(c: Connection, contact_id: str, known: Mapping[str, Any]) -> None:
    await c.run(
        "update contact set first_name = :first_name, last_name = :last_name, language = :language, zone = :zone, "
        "tags = :tags, attributes = :attributes, created_at = :created_at where id = :id",
        id=contact_id,
        **{name: known[name] for name in (*_FIELDS, "created_at")},
        tags=to_json(known["tags"]).decode(),
        attributes=to_json(known["attributes"]).decode(),
    )
