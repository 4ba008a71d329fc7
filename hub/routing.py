"""T2: from stored events to people, and from people to the runs that wait, leave or start.

A batch is one transaction. If it fails it is repeated event by event, and the culprit is set aside with its reason.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic_core import to_json

from hub import engine, seams
from hub.catalogue import Catalogue
from hub.clock import Clock, format_duration
from hub.conditions import Truth
from hub.connections import Connections
from hub.connector import Privacy, Trigger
from hub.erasing import Erasing
from hub.errors import HubError, NewerRelease, StoreUnavailable
from hub.events import Json
from hub.ids import new_id
from hub.library import Library
from hub.listening import Published
from hub.loops import Loops
from hub.metrics import Metrics
from hub.notices import Notices
from hub.store import blanking, connections, contacts, events, notices, runs, work
from hub.store.events import StoredEvent, answers_watch, event_scope
from hub.store.lanes import Lane
from hub.store.notices import Kept
from hub.store.runs import Lease, NewRun, RunRow, Waiting
from hub.store.session import Change, Connection, Store
from hub.store.work import Claim
from hub.text import TextError
from hub.traces import Traces
from hub.values import value
from hub.withdrawals import Withdrawals

BATCH = 200
_LOOK_AGAIN_S = 1.0

_log = logging.getLogger(__name__)


@value(frozen=True)
class _Candidate:
    event: StoredEvent
    contact_id: str | None
    published: Published
    rule: engine.EntryRule | None
    scope: str

    @property
    def entry_key(self) -> str:
        """What starts at most one run of the recipe."""
        return f"ev:{self.event.id}:{self.contact_id or ''}"


@dataclass
class _Outcome:
    """What a batch decided, before it is written."""

    runs: list[NewRun] = field(default_factory=list)
    stops: dict[str, dict[str, Json]] = field(default_factory=dict)
    answers: dict[str, dict[str, Json]] = field(default_factory=dict)
    verdicts: list[dict[str, str | int | None]] = field(default_factory=list)
    entries: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    # Events that are routed again: what is known of them gives way to what is found now.
    again: set[str] = field(default_factory=set)


@value(frozen=True)
class Routed:
    """How many events were routed, the new runs that are in hand already, and whether more events were seen."""

    events: int
    in_hand: Sequence[tuple[Claim, RunRow]] = ()
    more: bool = False


def watch_keys(trigger: Trigger[Any] | None, event: StoredEvent, contact_id: str | None) -> list[str]:
    """The keys that a waiter for this event may stand under."""
    keys = [f"contact={contact_id}"] if contact_id else []
    names = trigger.correlate if trigger else ()
    return keys + [f"{name}={event.data[name]}" for name in names if event.data.get(name) is not None]


class Router:
    """Routes the stored events of this hub; any number of processes may."""

    def __init__(
        self,
        store: Store,
        library: Library,
        connections: Connections,
        catalogue: Catalogue,
        clock: Clock,
        loops: Loops,
        notices: Notices,
        *,
        erasing: Erasing | None,
        withdrawals: Withdrawals | None,
        metrics: Metrics,
        traces: Traces,
    ) -> None:
        self._erasing, self._withdrawals = erasing, withdrawals
        self._loops = loops
        self._store, self._library, self._connections, self._clock = store, library, connections, clock
        self._catalogue, self._notices = catalogue, notices
        self._metrics, self._traces = metrics, traces

    async def route(self, lease: Lease) -> Routed:
        """Route one batch; new runs are taken in hand under `lease`. Raises StoreUnavailable, NewerRelease."""
        # What a batch needs is looked at again where its events are seen; this is for whatever else the library tells.
        await self._library.refresh(within_s=_LOOK_AGAIN_S)
        await self._connections.refresh()
        try:
            return await self._batch(BATCH, lease)
        except (StoreUnavailable, NewerRelease):
            raise
        except Exception:  # whatever it was, one event caused it: find out which, and set that one aside
            _log.exception("a batch could not be routed; trying its events singly", extra={"what": "route_failed"})
            return await self._singly(lease)

    async def _singly(self, lease: Lease) -> Routed:
        done = Routed(0)
        for _ in range(BATCH):
            async with self._store.read() as c:
                found = await events.unrouted(c, 1)
            if not found:
                break
            event_id = found[0].id
            try:
                # Only this one: the others may be in somebody else's hands, and theirs to judge.
                one = await self._batch(1, replace(lease, most=lease.most - len(done.in_hand)), only=event_id)
                done = Routed(done.events + one.events, [*done.in_hand, *one.in_hand])
            except (StoreUnavailable, NewerRelease):
                raise
            except Exception as error:  # the culprit, whatever it raised, is kept with its reason
                _log.exception("an event cannot be routed", extra={"what": "event_quarantined", "event_id": event_id})
                reason = str(error) if isinstance(error, HubError) else type(error).__name__
                async with self._store.write() as c:
                    await events.quarantine(c, event_id, f"routing failed: {reason}")
                    await notices.write(c, self._notices.of_events([event_id], in_hand=False))
                done = replace(done, events=done.events + 1)
        return done

    async def _batch(self, most: int, lease: Lease, *, only: str | None = None) -> Routed:
        gone: set[str] = set()
        while True:
            began_ns = time.time_ns()
            async with self._store.write() as c:
                found = [e for e in await events.unrouted(c, most) if only in (None, e.id)]
                # One that is routed again keeps its person, who is locked for it alone: nobody waits in a circle. So is
                # whom a vendor asks about.
                alone = next((e for e in found if e.again or self._privacy(e) is not None), None)
                more = alone is not None and len(found) > 1
                found = [alone] if alone else found
                batch = await self._set_aside(c, found)
                if not batch:
                    return Routed(len(found), more=more)
                # What was published or connected before an event came must count for it: ask where the event is seen.
                strange = {e.connection_id for e in batch if not self._connections.knows(e.connection_id)} - gone
                if ready := not strange and not await self._library.stale(c):
                    in_hand, news, over = await self._route(c, batch, lease)
                    seams.reach("route.commit")
            if ready:
                seams.reach("route.committed")
                self._notices.tell_beside(news, {e.id: e for e in batch})
                self._observe(batch, began_ns)
                self._tell_of_ended(over)
                return Routed(len(found), in_hand, more)
            await self._connections.refresh(force=True)
            # A connection that was removed since is none that any recipe names; who waits is found all the same.
            gone |= {id_ for id_ in strange if not self._connections.knows(id_)}
            await self._library.refresh()

    def _observe(self, batch: Sequence[StoredEvent], began_ns: int) -> None:
        now_ms = self._clock.now_ms()
        for event in batch:
            if event.again:
                continue
            self._metrics.routed((now_ms - event.received_at_ms) / 1000)
            self._traces.routed(event.id, began_ns, type=event.type)

    async def _route(
        self, c: Connection, batch: Sequence[StoredEvent], lease: Lease
    ) -> tuple[list[tuple[Claim, RunRow]], list[Kept], set[str]]:
        """Route a batch in its transaction: the new runs that are in hand, what plugins are to be told of it, and the
        connections (ids) that their vendors let in no longer."""
        names = {e.connection_id: self._name(e.connection_id) for e in batch}
        contact_of, erased = await self._people(c, batch, names)
        # That somebody is to be erased is told; what was of them is not.
        heard = [e.id for e in batch if e.id not in erased or self._privacy(e) is not None]
        news = await notices.write(c, told) if (told := self._notices.of_events(heard)) else []
        batch = [e for e in batch if e.id not in erased]
        contact_of = {e.id: contact_of.get(e.id) for e in batch}
        again = {e.id for e in batch if e.again}
        scopes = {e.id: event_scope(e, names[e.connection_id]) for e in batch}
        outcome = _Outcome(again=again)
        # Whoever waited when an event came was told; it breaks no silence of today either.
        new = [e for e in batch if not e.again]
        await self._match_waiting(c, new, contact_of, scopes, outcome)
        await self._match_entries(c, batch, contact_of, scopes, outcome)
        await self._silence(c, new, names)
        if self._withdrawals is not None:
            await self._withdrawals.look(c, new, contact_of)
        ended = self._ended(batch)
        over = await connections.end_access(c, ended) if ended else set()
        return await self._write(c, outcome, lease, contact_of), news, over

    async def _people(
        self, c: Connection, batch: Sequence[StoredEvent], names: Mapping[str, str]
    ) -> tuple[dict[str, str | None], set[str]]:
        """Whom each event is about, where that is anybody, and the events of which nothing is left: who was erased is nobody."""
        found: dict[str, str | None] = {}
        erased: set[str] = set()
        sightings = []
        for event in batch:
            privacy = self._privacy(event)
            if privacy is not None and self._erasing is not None:
                found[event.id] = await self._erasing.asked(c, event, names[event.connection_id], privacy)
                if privacy is Privacy.ERASE_PERSON:
                    erased.add(event.id)
            elif event.again:
                found[event.id] = event.contact_id
                if event.contact_id and not await contacts.lock(c, [event.contact_id]):
                    await blanking.empty_events(c, [event.id], "whom it was about was erased")
                    erased.add(event.id)
            elif event.subject is not None:
                sightings.append(
                    contacts.Sighting(event.id, names[event.connection_id], event.subject, event.received_at_ms)
                )
        known = await contacts.resolve(c, sightings)
        erased |= {s.event_id for s in sightings if s.event_id not in known and s.subject.keys(s.connection)}
        return found | known, erased

    def _privacy(self, event: StoredEvent) -> Privacy | None:
        """What an event asks the hub to do about somebody's data."""
        trigger = self._catalogue.trigger(event.type)
        return trigger.privacy if trigger else None

    async def _set_aside(self, c: Connection, found: Sequence[StoredEvent]) -> list[StoredEvent]:
        """The events that can be routed here. Those of connectors that are not loaded wait for their plugin.

        Without it nobody knows what such an event is found by, nor whose silence it breaks.
        """
        connectors = {e.id: e.type.partition(".")[0] for e in found}
        missing = {id_: name for id_, name in connectors.items() if name not in self._catalogue.connectors}
        if missing:
            _log.warning(
                "events wait for a plugin",
                extra={"what": "events_set_aside", "count": len(missing), "connectors": sorted(set(missing.values()))},
            )
        await events.set_aside(c, missing)
        return [e for e in found if e.id not in missing]

    def _name(self, connection_id: str) -> str:
        return self._connections.name_of(connection_id)

    def _ended(self, batch: Iterable[StoredEvent]) -> dict[str, connections.Ended]:
        """The connections of which an event says that their vendor lets them in no longer, by id, and the last such event."""
        return {
            event.connection_id: connections.Ended(
                event.occurred_at_ms, f"{event.type} came: the vendor takes its credentials no longer"
            )
            for event in sorted(batch, key=lambda one: one.occurred_at_ms)
            if not event.again and (trigger := self._catalogue.trigger(event.type)) is not None and trigger.ends_access
        }

    def _tell_of_ended(self, over: Collection[str]) -> None:
        if over:
            _log.warning("a vendor ended access", extra={"what": "access_ended", "connections": sorted(over)})
            self._connections.look_again()

    # -- those who wait --------------------------------------------------------------------------------------------

    async def _match_waiting(
        self,
        c: Connection,
        batch: Sequence[StoredEvent],
        contact_of: Mapping[str, str | None],
        scopes: Mapping[str, Mapping[str, Json]],
        outcome: _Outcome,
    ) -> None:
        keys = {e.id: watch_keys(self._catalogue.trigger(e.type), e, contact_of[e.id]) for e in batch}
        found = await runs.waiting_for(c, {(e.type, key) for e in batch for key in keys[e.id]})
        by_key: dict[tuple[str, str], list[Waiting]] = {}
        for waiting in found:
            by_key.setdefault((waiting.type, waiting.key), []).append(waiting)
        for event in batch:
            matched = [w for key in keys[event.id] for w in by_key.get((event.type, key), [])]
            # Of one event that is both, the exit wins: it is about the whole run.
            for waiting in sorted(matched, key=lambda w: w.kind != "exit"):
                # An exit also ends a run that another event of the batch has answered.
                kept = outcome.stops if waiting.kind == "exit" else outcome.answers
                if waiting.run_id in outcome.stops or waiting.run_id in kept:
                    continue
                if answers_watch(scopes[event.id], event, waiting.condition, waiting.since_ms):
                    kept[waiting.run_id] = {"name": waiting.name, "event": dict(scopes[event.id])}

    # -- those who start -------------------------------------------------------------------------------------------

    async def _match_entries(
        self,
        c: Connection,
        batch: Sequence[StoredEvent],
        contact_of: Mapping[str, str | None],
        scopes: Mapping[str, Mapping[str, Json]],
        outcome: _Outcome,
    ) -> None:
        candidates = [
            candidate
            for event in batch
            for published in self._library.listening(scopes[event.id])
            if (candidate := self._candidate(event, contact_of[event.id], published, scopes[event.id], outcome))
        ]
        if outcome.again:
            begun = await runs.known_keys(c, [(x.published.name, x.entry_key) for x in candidates])
            candidates = [x for x in candidates if (x.published.name, x.entry_key) not in begun]
        ruled = [(x.published.name, x.scope) for x in candidates if x.rule]
        # Entries are locked first: whoever else is letting somebody in under them is done when their runs are looked for.
        entered = await runs.entries(c, ruled)
        inside = await runs.inside(c, set(ruled))
        now_ms = self._clock.now_ms()
        named = [(x.published.name, x.contact_id) for x in candidates]
        lately = await self._loops.look(c, {x.event.cause for x in candidates}, named, now_ms)
        for candidate in candidates:
            key = (candidate.published.name, candidate.scope)
            refusal = self._loops.refusal(
                lately, candidate.published.name, candidate.contact_id, candidate.event.cause, now_ms
            ) or _refusal(candidate.rule, inside.get(key, []), entered.get(key, []), now_ms)
            if refusal:
                outcome.verdicts.append(
                    _verdict(candidate.event, candidate.published, candidate.contact_id, *refusal, now_ms)
                )
                continue
            run = self._new_run(candidate, scopes[candidate.event.id], now_ms, lately.depth(candidate.event.cause))
            lately.enter(candidate.published.name, candidate.contact_id)
            outcome.runs.append(run)
            if candidate.rule:
                if candidate.rule.while_inside == "restart":
                    outcome.stops |= {id_: {"cancel": "restarted", "event": None} for id_ in inside.get(key, [])}
                inside.setdefault(key, []).append(run.id)
                window = candidate.rule.within_ms
                kept = [t for t in entered.get(key, []) if window is None or t > now_ms - window]
                entered[key] = outcome.entries[key] = [*kept, now_ms][-candidate.rule.at_most :]

    def _candidate(
        self,
        event: StoredEvent,
        contact_id: str | None,
        published: Published,
        scope: Mapping[str, Json],
        outcome: _Outcome,
    ) -> _Candidate | None:
        now_ms = self._clock.now_ms()
        judgement = engine.admits(published.program, event.type, scope, str(scope["connection"]))
        if judgement.truth is not Truth.TRUE:
            word = "not_matched" if judgement.truth is Truth.FALSE else "unknown"
            outcome.verdicts.append(_verdict(event, published, contact_id, word, judgement.reason, now_ms))
            return None
        rule = engine.entry_rule(published.program)
        if rule and rule.per == "contact" and contact_id is None:
            reason = "the event names nobody, and the recipe counts entries per contact"
            outcome.verdicts.append(_verdict(event, published, None, "no_contact", reason, now_ms))
            return None
        try:
            key = engine.entry_scope(published.program, scope, contact_id) if rule else ""
        except TextError as error:
            outcome.verdicts.append(_verdict(event, published, contact_id, "unknown", str(error), now_ms))
            return None
        return _Candidate(event, contact_id, published, rule, key)

    def _new_run(self, candidate: _Candidate, scope: Mapping[str, Json], now_ms: int, depth: int) -> NewRun:
        event = candidate.event
        # Who has an event routed again begins anew; else a backlog makes nothing miss what followed its trigger.
        behind = not event.again and event.received_at_ms < now_ms
        return NewRun(
            id=new_id(),
            recipe=candidate.published.name,
            version=candidate.published.version,
            contact_id=candidate.contact_id,
            entry_key=candidate.entry_key,
            scope=candidate.scope,
            trigger=scope,
            started_at_ms=now_ms,
            depth=depth,
            since_ms=event.received_at_ms if behind else None,
        )

    # -- those who fall silent -------------------------------------------------------------------------------------

    async def _silence(self, c: Connection, batch: Sequence[StoredEvent], names: Mapping[str, str]) -> None:
        """Push back or end the silence that derived triggers wait for."""
        pending: dict[str, dict[str, object] | None] = {}
        for event in batch:
            connector_name, _, name = event.type.partition(".")
            connector = self._catalogue.connectors.get(connector_name)
            for trigger in connector.triggers.values() if connector else ():
                quiet = trigger.quiet
                if quiet is None or name not in (*quiet.source, *quiet.cancel):
                    continue
                key = quiet.key(event.data)
                if key is None and name in quiet.source:
                    continue
                ref = f"{names[event.connection_id]}|{trigger.type}|{key}"
                pending[ref] = (
                    {
                        "kind": "debounce",
                        "ref": ref,
                        "queue": str(Lane(connection=names[event.connection_id])),
                        "due_at": event.received_at_ms + quiet.after_s * 1000,
                        "data": to_json({"event_id": event.id}).decode(),
                    }
                    if name in quiet.source
                    else None
                )
        await work.put(c, [row for row in pending.values() if row])
        await c.group(
            "delete from work where kind = 'debounce' and ref in (select ref from {rows})",
            {"ref": "text"},
            [{"ref": ref} for ref, row in pending.items() if row is None],
        )

    async def _write(
        self, c: Connection, outcome: _Outcome, lease: Lease, contact_of: Mapping[str, str | None]
    ) -> list[tuple[Claim, RunRow]]:
        now_ms = self._clock.now_ms()
        await runs.wake(c, outcome.answers, now_ms)
        if outcome.again:
            judged = [(v["event_id"], v["recipe"]) for v in outcome.verdicts]
            judged += [(r.trigger["event_id"], r.recipe) for r in outcome.runs]
            await c.group(
                "delete from verdict where event_id in (select event_id from {rows}) and (event_id, recipe) in "
                "(select event_id, recipe from {rows})",
                {"event_id": "text", "recipe": "text"},
                [{"event_id": event, "recipe": recipe} for event, recipe in judged if event in outcome.again],
            )
        verdicts = Change(
            "insert into verdict (event_id, recipe, contact_id, outcome, reason, at) "
            "select event_id, recipe, contact_id, outcome, reason, at from {rows} where true on conflict do nothing",
            {**dict.fromkeys(("event_id", "recipe", "contact_id", "outcome", "reason"), "text"), "at": "bigint"},
            outcome.verdicts,
        )
        in_hand = await runs.start(
            c, outcome.runs, lease, runs.write_entries(outcome.entries), verdicts, events.mark_routed(contact_of)
        )
        # Last, since what is restarted may have started in this batch.
        await runs.stop(c, outcome.stops, now_ms)
        return in_hand


def _refusal(
    rule: engine.EntryRule | None, inside: Sequence[str], entered: Sequence[int], now_ms: int
) -> tuple[str, str] | None:
    """Why the entry rule says no: an outcome word and a sentence; None when it says yes."""
    if rule is None:
        return None
    if inside and rule.while_inside == "ignore":
        return "already_inside", f"a run is going on: {inside[0]}"
    recent = [t for t in entered if rule.within_ms is None or t > now_ms - rule.within_ms]
    if len(recent) >= rule.at_most:
        span = "ever" if rule.within_ms is None else f"in the last {format_duration(rule.within_ms)}"
        return (
            "entered_before",
            f"entered {len(recent)} time{'s' if len(recent) > 1 else ''} {span}, the most is {rule.at_most}",
        )
    return None


def _verdict(
    event: StoredEvent, published: Published, contact_id: str | None, outcome: str, reason: str, now_ms: int
) -> dict[str, str | int | None]:
    return {
        "event_id": event.id,
        "recipe": published.name,
        "contact_id": contact_id,
        "outcome": outcome,
        "reason": reason,
        "at": now_ms,
    }
