"""Records of merges: which contact stands for which, since when, and what is needed to undo it."""

from __future__ import annotations

from pydantic_core import to_json

from hub.events import Json
from hub.store.session import Connection, Row


async def write(c: Connection, id_: str, kept: str, other: str, *, who: str, at_ms: int, before: Json) -> None:
    """Record a merge."""
    await c.run(
        "insert into contact_merge (id, kept, other, who, before, at) values (:id, :kept, :other, :who, :before, :at)",
        id=id_,
        kept=kept,
        other=other,
        who=who,
        before=to_json(before).decode(),
        at=at_ms,
    )


async def get(c: Connection, id_: str) -> Row | None:
    """One merge, or None."""
    return await c.first("select * from contact_merge where id = :id", id=id_)


async def standing_for(c: Connection, contact_id: str) -> str | None:
    """The contact that one was merged into, through however many merges; None when it was not."""
    found = None
    while row := await _merged(c, found or contact_id):
        found = str(row["kept"])
    return found


async def _merged(c: Connection, contact_id: str) -> Row | None:
    return await c.first("select kept from contact_merge where other = :id and undone_at is null", id=contact_id)


async def beside(c: Connection, contact_id: str) -> list[Row]:
    """The merges that a contact itself was part of, the newest first."""
    rows = await c.all(
        "select * from contact_merge where kept = :id or other = :id order by at desc, id desc", id=contact_id
    )
    return list(rows)


async def of_contact(c: Connection, contact_id: str) -> list[Row]:
    """Every merge that somebody was part of, also those of contacts merged into them, the newest first."""
    found: dict[str, Row] = {}
    left, seen = [contact_id], {contact_id}
    while left:
        one = left.pop()
        for row in await beside(c, one):
            found[row["id"]] = row
            if row["kept"] == one and row["undone_at"] is None and row["other"] not in seen:
                seen.add(row["other"])
                left.append(row["other"])
    return sorted(found.values(), key=lambda row: (row["at"], row["id"]), reverse=True)


async def undone(c: Connection, id_: str, at_ms: int) -> None:
    """A merge is undone: of what it was made of nothing is kept."""
    await c.run("update contact_merge set undone_at = :at, before = '{}' where id = :id", id=id_, at=at_ms)
    await c.run("delete from contact_merge_row where merge_id = :id", id=id_)


async def forget(c: Connection, contact_id: str) -> None:
    """Somebody is erased: no merge that they were part of can be undone, and nothing tells of it."""
    given = [{"id": row["id"]} for row in await of_contact(c, contact_id)]
    await c.group("delete from contact_merge_row where merge_id in (select id from {rows})", {"id": "text"}, given)
    await c.group("delete from contact_merge where id in (select id from {rows})", {"id": "text"}, given)
