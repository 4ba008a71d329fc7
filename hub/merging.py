"""Merging: two contacts that an operator knows to be one person, and undoing it. Only people say so, never an event.

Afterwards all is as if they had been one from the start, as far as that can be: what waits is woken by what the other one
did, and of runs that a recipe's entry rule would not have let in side by side one goes on. Nothing starts.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from hub import seams, shown
from hub.clock import Clock, rfc3339
from hub.errors import ConfigError, NewerRelease, NotThere
from hub.events import Json
from hub.ids import new_id
from hub.recipes.form import Entry
from hub.store import invariants, merges, moving, runs, views
from hub.store.moving import LiveRun
from hub.store.session import Connection, Row, Store

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Merged:
    """A merge, done or only looked at (`id` None): how much moves, by kind, and which runs end by it, each with the reason."""

    id: str | None
    kept: str
    other: str
    at_ms: int
    counts: Mapping[str, int]
    ended: Mapping[str, str]


@dataclass(frozen=True)
class Undone:
    """A merge that was undone; `stays` is how much of what came since is the kept one's."""

    id: str
    kept: str
    other: str
    at_ms: int
    stays: Mapping[str, int]


class Merging:
    """Merges contacts and undoes it."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock

    async def look(self, kept: str, other: str) -> Merged:
        """What merging would do. Raises ConfigError, NotThere as `merge`."""
        async with self._store.read() as c:
            _require_two(kept, other)
            live = await moving.live_runs(c, [kept, other], locked=False)
            return await self._found(c, None, kept, other, live)

    async def merge(self, kept: str, other: str, *, who: str) -> Merged:
        """`other` is `kept` from here on. Raises ConfigError for one and the same, NotThere for who is not there any more."""
        async with self._store.write() as c:
            _require_two(kept, other)
            rows = await moving.lock(c, [kept, other])
            for contact_id in (kept, other):
                if contact_id not in rows:
                    raise NotThere("nobody is known by this id any more; `hub contacts list` shows who is")
            live = await moving.live_runs(c, [kept, other])
            found = await self._found(c, new_id(), kept, other, live)
            assert found.id is not None, "it was just made"
            await moving.move(c, found.id, rows[kept], rows[other], who=who, at_ms=found.at_ms)
            await runs.stop(c, {id_: {"cancel": why, "event": None} for id_, why in found.ended.items()}, found.at_ms)
            await self._look_again(c, [run.id for run in live if run.id not in found.ended], kept, found.at_ms)
            seams.reach("merge.commit")
        _log.info("two contacts are one", extra={"what": "contacts_merged", "merge": found.id})
        return found

    async def undo(self, id_: str) -> Undone:
        """The two of a merge are two again: what came of either since stays with the one that was kept.

        Raises NotThere, and ConfigError when it is undone already, or a later merge with the kept one has to be undone first.
        """
        async with self._store.write() as c:
            row = await merges.get(c, id_)
            if row is None:
                raise NotThere("there is no merge with this id; `hub contacts show` tells of a person's merges")
            kept = (await moving.lock(c, [row["kept"]])).get(row["kept"])
            row = await merges.get(c, id_) or row
            if row["undone_at"] is not None:
                raise ConfigError(
                    f"the merge {id_} was undone at {rfc3339(row['undone_at'])}; `hub contacts show` tells"
                )
            if later := await _later(c, row):
                raise ConfigError(
                    f"{row['kept']} was merged again since, by {later}; undo that first: `hub contacts unmerge {later}`"
                )
            assert kept is not None, "a contact that is not there was merged since, or its merges are gone with it"
            now_ms = self._clock.now_ms()
            stays = await moving.move_back(c, row, kept, at_ms=now_ms)
        _log.info("a merge is undone", extra={"what": "contacts_unmerged", "merge": id_})
        return Undone(id_, row["kept"], row["other"], now_ms, stays)

    async def _found(self, c: Connection, id_: str | None, kept: str, other: str, live: Sequence[LiveRun]) -> Merged:
        times = {contact_id: await moving.entries(c, contact_id) for contact_id in (kept, other)}
        counts = await moving.counts(c, other) | {"live_runs": sum(run.contact_id == other for run in live)}
        return Merged(id_, kept, other, self._clock.now_ms(), counts, _ended(live, times[kept], times[other]))

    async def _look_again(self, c: Connection, run_ids: Sequence[str], kept: str, now_ms: int) -> None:
        """T6 for the runs of both: what one of them did, the other one's runs did not see. An exit comes before an answer."""
        stops: dict[str, Mapping[str, Json]] = {}
        answers: dict[str, Mapping[str, Json]] = {}
        for waiter in await moving.waiters(c, run_ids, kept):
            if waiter["run_id"] in stops or waiter["run_id"] in answers:
                continue
            if (answer := await invariants.answer_to(c, waiter)) is not None:
                (stops if waiter["kind"] == "exit" else answers)[waiter["run_id"]] = answer
        await runs.wake(c, answers, now_ms)
        await runs.stop(c, stops, now_ms)


def _require_two(kept: str, other: str) -> None:
    if kept == other:
        raise ConfigError("both are one and the same person already; `hub contacts show` tells by what they are known")


async def _later(c: Connection, merge: Row) -> str | None:
    """The newest merge since this one that its kept contact was part of and that stands."""
    newest = next(row for row in await merges.beside(c, merge["kept"]) if row["undone_at"] is None)
    return None if newest["id"] == merge["id"] else str(newest["id"])


# -- naming and showing ------------------------------------------------------------------------------------------------


async def find(store: Store, kept: str, other: str) -> tuple[str, str]:
    """The ids of two contacts, each by id, e-mail address or phone number. Raises NotThere."""
    async with store.read() as c:
        return await views.find_contact(c, kept), await views.find_contact(c, other)


async def newest(store: Store, contact: str, merge_id: str | None = None) -> str:
    """The newest merge of a person that stands, or the one of theirs that is named. Raises NotThere."""
    async with store.read() as c:
        rows = await merges.of_contact(c, await views.find_contact(c, contact))
    found = [row["id"] for row in rows if (row["undone_at"] is None if merge_id is None else row["id"] == merge_id)]
    if not found:
        raise NotThere("this person has no such merge; `hub contacts show` tells of those there are")
    return str(found[0])


def view(merged: Merged) -> shown.Merging:
    """A merge that was done or looked at, as it is shown."""
    counts = merged.counts
    return {
        "id": merged.id,
        "kept": merged.kept,
        "other": merged.other,
        "at": rfc3339(merged.at_ms),
        "identities": counts["identity"],
        "events": counts["event"],
        "runs": counts["run"],
        "live_runs": counts["live_runs"],
        "messages": counts["message"],
        "ended": dict(merged.ended),
    }


def undone_view(undone: Undone) -> shown.Unmerged:
    """A merge that was undone, as it is shown."""
    return {
        "id": undone.id,
        "kept": undone.kept,
        "other": undone.other,
        "at": rfc3339(undone.at_ms),
        "events_stay": undone.stays["events"],
        "runs_stay": undone.stays["runs"],
    }


# -- entry rules -------------------------------------------------------------------------------------------------------


def _ended(
    live: Sequence[LiveRun], kept: Mapping[str, Sequence[int]], other: Mapping[str, Sequence[int]]
) -> dict[str, str]:
    """The runs that would not be there had both been one person, and why: run id to reason.

    Only of recipes that count entries per contact and that both have entered.
    """
    found: dict[str, str] = {}
    for recipe in sorted(set(kept) & set(other)):
        mine = [run for run in live if run.recipe == recipe and run.scope == run.contact_id and run.entry]
        if mine:
            # The runs of one recipe may be of several versions; the newest run's rule is the one that counts.
            rule = _rule(recipe, max(mine, key=lambda run: (run.started_at_ms, run.id)).entry)
            found |= surplus(rule, mine, [*kept[recipe], *other[recipe]])
    return found


def _rule(recipe: str, entry: Json) -> Entry:
    try:
        return Entry.model_validate(entry)
    except ValidationError as error:
        raise NewerRelease(
            f"the entry rule of {recipe} is of a newer release; upgrade tetik-hub, then merge"
        ) from error


def surplus(rule: Entry, live: Sequence[LiveRun], times: Sequence[int]) -> dict[str, str]:
    """Of one recipe's runs for one person those that its rule would not have let in, and why.

    Who has written to the person goes on first, then who began first. `times` are all entries, also of runs that have ended.
    """
    ranked = sorted(live, key=lambda run: (not run.sent, run.started_at_ms, run.id))
    entered = Counter(times) - Counter(run.started_at_ms for run in live)
    ended: dict[str, str] = {}
    staying: list[LiveRun] = []
    for run in ranked:
        among = sorted([*entered.elements(), *(one.started_at_ms for one in staying), run.started_at_ms])
        if _most_together(among, run.started_at_ms, rule.within_ms) > rule.at_most:
            ended[run.id] = "merged: as one person they have entered the recipe as often as it lets them"
        else:
            staying.append(run)
    if rule.while_inside == "ignore":
        ended |= {run.id: f"merged: the run {staying[0].id} of the same person goes on" for run in staying[1:]}
    elif rule.while_inside == "restart":
        newest = max(staying, key=lambda run: (run.started_at_ms, run.id), default=None)
        ended |= {
            run.id: f"merged: the later run {newest.id} of the same person goes on"
            for run in staying
            if newest is not None and run is not newest
        }
    return ended


def _most_together(times: Sequence[int], at_ms: int, within_ms: int | None) -> int:
    """The most entries in any window of so long that holds an instant; `times` is sorted."""
    if within_ms is None:
        return len(times)
    begins = [t for t in times if at_ms - within_ms < t <= at_ms]
    return max(sum(begin <= t < begin + within_ms for t in times) for begin in begins)
