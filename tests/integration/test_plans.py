"""What the hot statements cost when a million runs wait: looked up by index, whatever the planner knew of the tables.

The plans that hurt are those that PostgreSQL made while the hub was new, and keeps; and those it makes from statistics of
that time.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from bench.fill import PARTS, Copies, multiply
from hub.store import work
from hub.store.schema import metadata
from hub.store.session import Store
from tests.statements import Statements, recorded

# A million takes more than a minute to write; a plan that reads a table shows with fewer.
WAITING = int(os.environ.get("HUB_TEST_WAITING", "60000"))
# Of a group of a few rows each statement touches a few rows of each table, and pages on the way down its indexes.
MOST_ROWS, MOST_PAGES = 1_000, 2_000
DAY = 86_400_000

JOURNEY = """
recipe: journey
on: {event: acme.carted}
entry: {per: contact, at_most: 5, within: 1d}
exit_on: [{event: acme.purchased}]
steps:
  - {do: acme.put_note, with: {key: "{{ trigger.id }}"}}
  - {wait_for: {came: {event: acme.clicked, match: {event.cart: "{{ trigger.cart }}"}}}, timeout: 30d, as: click}
  - {do: acme.put_note, with: {key: "{{ trigger.id }}:after"}}
"""
WELCOME = """
recipe: welcome
on: {event: acme.signed_up}
exit_on: [{event: acme.purchased}]
steps:
  - {do: acme.send_text, purpose: orders, with: {to: "{{ trigger.phone }}", body: hello}}
  - {set: {contact.attributes.seen: "yes"}}
  - {wait: 1d}
  - {do: acme.add_members, with: {audience: vip, email: "{{ trigger.email }}"}}
"""


async def _waiting_run(it: Any) -> str:
    """A run that waits, to be multiplied."""
    await it.publish(JOURNEY)
    await it.publish(WELCOME)
    body = {"id": "template", "email": "template@example.com", "cart": "template"}
    await it.deliver("carted", body, delivery="template")
    await it.rest()
    # What is old is removed once an hour, by reading tables; that is not what is watched here.
    await _do(it.hub.store, "delete from work where kind = 'upkeep'")
    return str((await it.runs())[0]["id"])


async def _live(it: Any) -> None:
    """Everything that happens often: entries, repeats, messages, answers, exits, timers, batches, what is filled in later."""
    for n, name in enumerate(("ada", "bob", "cem")):
        person = {"id": name, "email": f"{name}@example.com", "phone": f"+1415555010{n}", "cart": name}
        await it.deliver("carted", person, delivery=f"{name}-1")
        await it.deliver("carted", person, delivery=f"{name}-2")
        await it.deliver("signed_up", {**person, "sms_ok": True}, delivery=f"{name}-3")
    await it.rest()
    await it.deliver("clicked", {"id": "click", "email": "ada@example.com", "cart": "ada"})
    await it.deliver("purchased", {"id": "purchase", "email": "bob@example.com", "cart": "bob"})
    it.sandbox.leads = {"lead": {"email": "lead@example.com"}}
    await it.deliver("lead", {"id": "lead"})
    await it.rest()
    await it.advance(2 * DAY)
    async with it.hub.store.write() as c:
        [claim] = await work.claim(c, now_ms=it.hub.clock.now_ms() + 60 * DAY, lease_ms=1, owner="w", most=1)
        await work.renew(c, owner="w", until_ms=claim.epoch, held=[(claim.kind, claim.ref, claim.epoch)])
        await work.give_back(c, claim, due_ms=it.hub.clock.now_ms() + 60 * DAY)
        await work.unpark(c, "connection:acme", it.hub.clock.now_ms())
        lanes = await work.lanes(c)
        await work.claim_from(c, dict.fromkeys(lanes, 20), now_ms=1, lease_ms=1, owner="w")
    await it.rest()


# -- PostgreSQL --------------------------------------------------------------------------------------------------------


class Planner:
    """A session with the hub's own settings that prepares statements as the driver does and explains what they do."""

    def __init__(self, session: asyncpg.Connection, statements: Statements) -> None:
        self._session, self._statements = session, list(statements.items())
        self._round = 0

    async def prepare(self, mode: str) -> None:
        """Prepare every statement anew, and plan it now if `mode` plans before the parameters are known."""
        self._round += 1
        await self._session.execute(f"set plan_cache_mode = {mode}")
        for n, (statement, _) in enumerate(self._statements):
            await self._session.execute(f"prepare s{self._round}_{n} as {statement}")
            await self._session.execute(f"explain {self._execution(n)}")

    async def faults(self) -> list[str]:
        """The statements that read more than they should, with what they read. Nothing is changed."""
        found = []
        for n, (statement, _) in enumerate(self._statements):
            if wrong := list(_faults(await self._explained(n))):
                found.append(f"{', '.join(wrong)}: {' '.join(statement.split())}")
        return found

    async def _explained(self, n: int) -> dict[str, Any]:
        attempt = self._session.transaction()
        await attempt.start()
        try:
            shown = await self._session.fetchval(f"explain (analyze, buffers, format json) {self._execution(n)}")
        except asyncpg.UniqueViolationError:
            # An insert of what is there already has found out by its index.
            return {"Node Type": "Insert"}
        finally:
            await attempt.rollback()
        plan: dict[str, Any] = json.loads(shown)[0]["Plan"]
        return plan

    def _execution(self, n: int) -> str:
        given = self._statements[n][1]
        return f"execute s{self._round}_{n}" + (f"({', '.join(map(_literal, given))})" if given else "")


def _literal(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bytes):
        return f"'\\x{value.hex()}'"
    if isinstance(value, list):
        return f"cast(array[{', '.join(map(_literal, value))}] as text[])"
    return str(value) if isinstance(value, int) else "'" + str(value).replace("'", "''") + "'"


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from _nodes(part)


def _faults(plan: dict[str, Any]) -> Iterator[str]:
    for node in _nodes(plan):
        kind, table = node["Node Type"], node.get("Relation Name", node.get("Index Name", ""))
        if kind == "Seq Scan" and table in PARTS:
            yield f"reads all of {table}"
        counts = (
            "Actual Rows",
            "Rows Removed by Filter",
            "Rows Removed by Join Filter",
            "Rows Removed by Index Recheck",
        )
        rows = sum(node.get(name, 0) for name in counts) * node.get("Actual Loops", 1)
        if rows > MOST_ROWS:
            yield f"{kind} of {table} sees {rows:.0f} rows"
    pages = plan.get("Shared Hit Blocks", 0) + plan.get("Shared Read Blocks", 0)
    if pages > MOST_PAGES:
        yield f"reads {pages} pages"


@asynccontextmanager
async def _session(store: Store) -> AsyncIterator[asyncpg.Connection]:
    """One of the hub's own connections."""
    async with store._reader.lend() as driver:
        connection = driver._connection  # type: ignore[attr-defined]  # what the driver speaks to
        yield connection
        await connection.execute("reset plan_cache_mode")


async def _do(store: Store, *statements: str) -> None:
    async with store.write(limit_s=120) as c:
        for statement in statements:
            await c.run(statement)


async def test_no_hot_statement_reads_a_table_when_very_many_wait(
    running: Callable[..., Any], postgres_url: str
) -> None:
    async with running(postgres_url, work=True) as it:
        store = it.hub.store
        # given a hub whose statistics and plans are those of its first day
        await _do(
            store, *(f"alter table {table} set (autovacuum_enabled = off)" for table in metadata.tables), "analyze"
        )
        template = await _waiting_run(it)
        with recorded(store) as statements:
            await _live(it)
        assert len(statements) > 50, "the hub did not do what it was to be watched at"
        faults: dict[str, list[str]] = {}
        async with _session(store) as old, _session(store) as new:
            kept, stale = Planner(old, statements), Planner(new, statements)
            await kept.prepare("force_generic_plan")
            # when very many wait
            await multiply(store, template, Copies(WAITING, "template"))
            # then the plans it kept still look rows up
            faults["kept since the first day"] = await kept.faults()
            # and so do those it makes from that day's statistics, and from today's
            for title, mode in (("stale, custom", "force_custom_plan"), ("stale, generic", "force_generic_plan")):
                await stale.prepare(mode)
                faults[title] = await stale.faults()
            await _do(store, "analyze")
            await stale.prepare("force_generic_plan")
            faults["fresh"] = await stale.faults()
        assert not any(faults.values()), "\n".join(f"{title}: {one}" for title in faults for one in faults[title])


# -- SQLite ------------------------------------------------------------------------------------------------------------


# A group itself, subselects over one or with a limit, an index that holds only what is not routed yet, what operators set.
OPERATORS = ("SCAN pause", "SCAN cap")
SMALL = ("SCAN json_each", "SCAN again", "SCAN lane", "SCAN q", "SCAN event USING INDEX event_unrouted", *OPERATORS)


async def test_no_hot_statement_reads_a_table_on_sqlite(running: Callable[..., Any], sqlite_url: str) -> None:
    async with running(sqlite_url) as it:
        await _waiting_run(it)
        # when the hub lives
        with recorded(it.hub.store) as statements:
            await _live(it)
        assert len(statements) > 50, "the hub did not do what it was to be watched at"
        # then SQLite, which keeps no statistics here, looks everything up
        read = [(line, s) for s in statements for line in await _plan(it.hub.store, s) if line.startswith("SCAN")]
        assert {line: statement for line, statement in read if not line.startswith(SMALL)} == {}


async def _plan(store: Store, statement: str) -> list[str]:
    async with store.read() as c:
        return [row["detail"] for row in await c.all(f"explain query plan {statement}")]
