"""Looking everything through for somebody's addresses: what no link leads to, such as a call that nobody could read.

Tables are walked in the order of their keys, some rows at a time. Where an address is found it is taken out; a call as it
came, which is somebody else's bytes, is emptied whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from pydantic_core import from_json, to_json

from hub.events import Json
from hub.store import blanking, tombstones
from hub.store.retention import first_id_at
from hub.store.session import Connection, Row
from hub.store.tombstones import Key

STEP_ROWS = 500
MASK = "(erased)"
# Fewer digits than this may be anything.
_LEAST = 8


@dataclass(frozen=True)
class Swept:
    """A table, its key, what of it may hold an address (JSON, or text), and what is true of rows that are old enough.

    What came after the erasure is a new beginning: `:until` is its instant, `:bound` the first id after it.
    """

    table: str
    key: tuple[str, ...]
    old: str
    json: tuple[str, ...] = ()
    text: tuple[str, ...] = ()


TABLES = (
    Swept("delivery", ("id",), "received_at <= :until"),
    Swept("event", ("id",), "occurred_at <= :until", json=("data", "subject"), text=("note",)),
    Swept("event_key", ("type", "key", "event_id"), "event_id < :bound"),
    Swept(
        "run",
        ("id",),
        "started_at <= :until",
        json=("trigger_data", "ctx", "wake", "stop"),
        text=("scope", "reason"),
    ),
    Swept("step", ("run_id", "seq"), "at <= :until", text=("reason",)),
    Swept("effect", ("key",), "intended_at <= :until", json=("request", "response"), text=("reason", "batch")),
    Swept("waiter", ("run_id", "n"), "since <= :until", json=("condition",), text=("key",)),
    Swept("verdict", ("event_id", "recipe"), "at <= :until", text=("reason",)),
    Swept("contact", ("id",), "created_at <= :until", json=("tags", "attributes"), text=("first_name", "last_name")),
    Swept("contact_merge", ("id",), "at <= :until", json=("before",)),
    Swept("consent", ("id",), "at <= :until", text=("address", "reason")),
    Swept("entry", ("recipe", "scope"), "true"),
    Swept("dedupe", ("scope", "id"), "seen_at <= :until"),
    Swept("work", ("kind", "ref"), "kind in ('debounce', 'batch')"),
    Swept("pause", ("id",), "at <= :until", text=("target", "reason")),
)
# Rows of these are nothing without their key, so that they go whole. Of work only silences and batches may name people,
# and a batch that still has somebody's effects is given its work again by the watchdog; the rest is sealed, or ids.
_DROPPED = {"event_key", "entry", "work"}


def needles(keys: Iterable[Key]) -> list[str]:
    """The texts, in lower case, that give somebody away: e-mail addresses and phone numbers as others write them."""
    found: set[str] = set()
    for kind, value in keys:
        if kind == "email":
            found |= {value, quote(value, safe=""), quote(value), json.dumps(value)[1:-1]}
        elif kind == "phone" and len(value.lstrip("+")) >= _LEAST:
            # Contained in every other way of writing it without spaces.
            found.add(value.lstrip("+"))
    return sorted(needle.lower() for needle in found)


def scrubbed(text: str, wanted: Sequence[str]) -> str:
    """A text without these."""
    if not wanted:
        return text
    return re.sub("|".join(map(re.escape, sorted(wanted, key=len, reverse=True))), MASK, text, flags=re.IGNORECASE)


def _without(value: Json, wanted: Sequence[str]) -> Json:
    """A JSON value without these, also in names and numbers."""
    if isinstance(value, str):
        return scrubbed(value, wanted)
    if isinstance(value, dict):
        return {scrubbed(name, wanted): _without(inner, wanted) for name, inner in value.items()}
    if isinstance(value, list):
        return [_without(inner, wanted) for inner in value]
    if isinstance(value, int | float) and any(needle in str(value) for needle in wanted):
        return MASK
    return value


async def sweep(
    c: Connection, table: Swept, after: Sequence[Any], wanted: Sequence[str], until_ms: int
) -> tuple[int, list[Any] | None]:
    """Look at the next rows of a table after a key; returns how many held an address, and where to go on from."""
    keys = ", ".join(table.key)
    given = {f"after_{n}": value for n, value in enumerate(after)}
    begin = f"({keys}) > ({', '.join(f':{name}' for name in given)})" if given else "true"
    part = f"select {keys} from {table.table} where {begin} order by {keys} limit {STEP_ROWS}"
    last = await c.first(
        f"select {keys} from ({part}) as part order by {', '.join(f'{name} desc' for name in table.key)} limit 1",
        **given,
    )
    if last is None or not wanted:
        return 0, None
    until = [last[name] for name in table.key]
    given |= {f"last_{n}": value for n, value in enumerate(until)} | {f"n{n}": text for n, text in enumerate(wanted)}
    times = {"until": until_ms, "bound": first_id_at(until_ms + 1)}
    end = f"({keys}) <= ({', '.join(f':last_{n}' for n in range(len(until)))})"
    tests = [test for n, _ in enumerate(wanted) for test in _tests(c, table, f"n{n}")]
    rows = await c.all(
        f"select {', '.join((*table.key, *table.json, *table.text))} from {table.table} "
        f"where {begin} and {end} and {table.old} and ({' or '.join(tests)}) {c.for_update}",
        **given,
        **{name: value for name, value in times.items() if f":{name}" in table.old},
    )
    await _clean(c, table, rows, wanted)
    return len(rows), until


def _tests(c: Connection, table: Swept, needle: str) -> list[str]:
    """What is true of a row that holds a needle. SQL has two words for it, and bytes are no text."""
    names = [name for name in (*table.key, *table.json, *table.text) if name not in {"seq", "n"}]
    texts = [f"lower({name})" for name in names]
    if table.table == "delivery":
        body = "encode(body, 'escape')" if c.dialect == "postgresql" else "cast(body as text)"
        texts = [f"lower({body})", "lower(request)", "lower(coalesce(note, ''))"]
    if table.table == "work":
        texts.append("lower(coalesce(data, ''))")
    if c.dialect == "postgresql":
        return [f"position(cast(:{needle} as text) in {text}) > 0" for text in texts]
    return [f"instr({text}, :{needle}) > 0" for text in texts]


async def _clean(c: Connection, table: Swept, rows: Sequence[Row], wanted: Sequence[str]) -> None:
    if not rows:
        return
    if table.table == "delivery":
        await blanking.empty_deliveries(c, [row["id"] for row in rows])
        return
    if table.table == "dedupe":
        await tombstones.hide_facts(c, [(row["scope"], row["id"]) for row in rows])
        return
    for row in rows:
        where = " and ".join(f"{name} = :{name}" for name in table.key)
        key = {name: row[name] for name in table.key}
        if table.table in _DROPPED:
            await c.run(f"delete from {table.table} where {where}", **key)
        else:
            columns = {name: _cleaned(table, name, row[name], wanted) for name in (*table.json, *table.text)}
            if table.table == "consent" and columns["address"] != row["address"]:
                columns["address"] = tombstones.hidden(c, row["address"])
            sets = ", ".join(f"{name} = :{name}" for name in columns)
            await c.run(f"update {table.table} set {sets} where {where}", **columns, **key)


def _cleaned(table: Swept, name: str, value: str | None, wanted: Sequence[str]) -> str | None:
    if value is None:
        return None
    if name in table.text:
        return scrubbed(value, wanted)
    return to_json(_without(from_json(value), wanted)).decode()
