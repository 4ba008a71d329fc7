"""Spending caps and what was used of them. Taking is one statement that refuses, so that no cap is ever exceeded.

`spend` says what a call that is about to be made, or under way, has taken: given back when it certainly was not made.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hub.store.session import Connection, Row

_PARKED = "cap:"
_SPREAD_MS = 5_000
# Longer than any process goes by a cap as it was (`hub.fresh`).
_KNOWN_WITHIN_MS = 10_000


@dataclass(frozen=True)
class Cap:
    """At most so many of a unit per day or month, on a connection or by a recipe."""

    id: str
    kind: str
    target: str
    per: str
    unit: str
    most: int
    at_ms: int

    @property
    def subject(self) -> str:
        """What `usage` counts it under."""
        return f"{self.kind}:{self.target}:spend:{self.per}:{self.unit}"

    @property
    def parks_on(self) -> str:
        """What `work.parked_on` says of runs that wait for its next period."""
        return _PARKED + self.id

    @property
    def about(self) -> str:
        """The cap in words."""
        return f"{self.most:,} {self.unit} per {self.per} on the {self.kind} {self.target}"

    @classmethod
    def of(cls, row: Row) -> Cap:
        """From a row of the table `cap`."""
        return cls(row["id"], row["kind"], row["target"], row["per"], row["unit"], row["most"], row["at"])


@dataclass(frozen=True)
class Charge:
    """What one call takes of a cap in the period from `period_ms` until `until_ms`."""

    cap: Cap
    amount: int
    period_ms: int
    until_ms: int


async def everything(c: Connection) -> list[Cap]:
    """Every cap."""
    return [Cap.of(row) for row in await c.all("select * from cap order by kind, target, per, unit")]


async def put(c: Connection, cap: Cap) -> Cap:
    """Add a cap; one on the same thing keeps its id and what was used, and gets the new limit."""
    row = await c.first(
        "insert into cap (id, kind, target, per, unit, most, at) values (:id, :kind, :target, :per, :unit, :most, :at) "
        "on conflict (kind, target, per, unit) do update set most = excluded.most, at = excluded.at returning *",
        id=cap.id,
        kind=cap.kind,
        target=cap.target,
        per=cap.per,
        unit=cap.unit,
        most=cap.most,
        at=cap.at_ms,
    )
    assert row is not None, "an insert that cannot be skipped returns its row"
    return Cap.of(row)


async def remove(c: Connection, cap: Cap) -> bool:
    """Remove a cap; what was used of it stays counted."""
    return bool(await c.run("delete from cap where id = :id", id=cap.id))


async def release(c: Connection, cap: Cap, now_ms: int) -> int:
    """Runs that wait for this cap look again, spread over a few seconds; returns how many."""
    return await c.run(
        "update work set parked_on = null, due_at = cast(:now as bigint) + (n.place * 7) % cast(:spread as bigint) "
        "from (select kind, ref, row_number() over (order by ref) as place from work "
        "where parked_on = :on and owner is null) as n where work.kind = n.kind and work.ref = n.ref",
        on=cap.parks_on,
        now=now_ms,
        spread=_SPREAD_MS,
    )


async def used(c: Connection, charges: Sequence[Charge]) -> dict[str, int]:
    """What was used of each cap (by id) in its period."""
    rows = await c.group(
        "select r.id as id, usage.used as used from usage join {rows} "
        "on usage.subject = r.subject and usage.period = r.period",
        {"id": "text", "subject": "text", "period": "bigint"},
        [{"id": x.cap.id, "subject": x.cap.subject, "period": x.period_ms} for x in charges],
    )
    return {row["id"]: row["used"] for row in rows}


async def take(
    c: Connection, effect_key: str, token: str, charges: Sequence[Charge]
) -> tuple[Charge | None, list[int]]:
    """Take every charge; returns the first that its cap refuses (then roll back), and what is used of each now."""
    found: list[int] = []
    # In one order for everybody, so that two calls never wait for each other.
    for charge in charges:
        row = None
        if charge.amount <= charge.cap.most:
            row = await c.first(
                "insert into usage (subject, period, used) values (:subject, :period, :amount) "
                "on conflict (subject, period) do update set used = usage.used + excluded.used "
                "where usage.used + excluded.used <= :most returning used",
                subject=charge.cap.subject,
                period=charge.period_ms,
                amount=charge.amount,
                most=charge.cap.most,
            )
        if row is None:
            return charge, found
        found.append(row["used"])
    await c.group(
        "insert into spend (effect_key, subject, token, period, amount) "
        "select effect_key, subject, token, period, amount from {rows} where true",
        {"effect_key": "text", "subject": "text", "token": "text", "period": "bigint", "amount": "bigint"},
        [
            {
                "effect_key": effect_key,
                "subject": x.cap.subject,
                "token": token,
                "period": x.period_ms,
                "amount": x.amount,
            }
            for x in charges
        ],
    )
    return None, found


async def settle(c: Connection, spent: Iterable[tuple[str, str]], *, made: bool) -> None:
    """What these calls (effect key and token) had taken: kept when they were, or may have been, made; else given back."""
    given = [{"effect_key": key, "token": token} for key, token in sorted(spent)]
    rows = await c.group(
        "delete from spend where (effect_key, token) in (select effect_key, token from {rows}) "
        "returning subject, period, amount",
        {"effect_key": "text", "token": "text"},
        given,
    )
    if not made:
        await _give_back(c, rows)


async def settle_all(c: Connection, effect_keys: Iterable[str], *, made: bool) -> None:
    """What any earlier call of these effects had taken: kept when it may have been made, else given back."""
    rows = await c.group(
        "delete from spend where effect_key in (select effect_key from {rows}) returning subject, period, amount",
        {"effect_key": "text"},
        [{"effect_key": key} for key in effect_keys],
    )
    if not made:
        await _give_back(c, rows)


async def _give_back(c: Connection, rows: Sequence[Row]) -> None:
    back: dict[tuple[str, int], int] = {}
    for row in rows:
        key = (row["subject"], row["period"])
        back[key] = back.get(key, 0) + row["amount"]
    await c.group(
        "update usage set used = usage.used - r.amount from {rows} where usage.subject = r.subject and usage.period = r.period",
        {"subject": "text", "period": "bigint", "amount": "bigint"},
        [{"subject": subject, "period": period, "amount": n} for (subject, period), n in sorted(back.items())],
    )


async def renamed(c: Connection, keys: Iterable[str], token: str) -> None:
    """Effects of a batch are called under one token from now on."""
    await c.group(
        "update spend set token = :token where effect_key in (select effect_key from {rows})",
        {"effect_key": "text"},
        [{"effect_key": key} for key in keys],
        token=token,
    )


async def warn_once(c: Connection, charge: Charge, word: str) -> bool:
    """Whether nobody has warned of this in this period; from now on somebody has."""
    return bool(
        await c.run(
            "insert into usage (subject, period, used) values (:subject, :period, 0) on conflict do nothing",
            subject=f"{charge.cap.subject}:{word}",
            period=charge.period_ms,
        )
    )


async def miscounted(c: Connection, most: int) -> Sequence[Row]:
    """Caps (`ref`) of which more was used in a period than they allow, or less than calls under way have taken.

    Whoever lowers a cap finds what was used before it: only periods are looked at that began afterwards.
    """
    return await c.all(
        "select distinct cap.id as ref from cap join usage "
        "on usage.subject = cap.kind || ':' || cap.target || :spend || cap.per || ':' || cap.unit "
        "where (usage.used > cap.most and usage.period > cap.at + :known) or usage.used < coalesce((select sum(spend.amount) "
        "from spend where spend.subject = usage.subject and spend.period = usage.period), 0) limit :most",
        spend=":spend:",
        known=_KNOWN_WITHIN_MS,
        most=most,
    )


async def unsettled(c: Connection, most: int) -> Sequence[Row]:
    """Runs (`ref`) with an effect whose outcome is known, and for which is still kept what its call had taken."""
    return await c.all(
        # Few effects have spent something: SQLite begins a cross join with its first table.
        "select distinct effect.run_id as ref from spend cross join effect "
        "where effect.key = spend.effect_key and effect.outcome is not null limit :most",
        most=most,
    )
