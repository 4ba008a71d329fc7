"""An event that a run looks out for: the exits of a recipe and the answers of a wait."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from hub import text
from hub.catalogue import nearest
from hub.events import Json
from hub.steps.checking import Check, Place, event_shape
from hub.steps.decisions import Watch


class Awaited(BaseModel):
    """An event by name; `match` joins its fields to what the run knows, `where` is a condition over it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    event: str
    match: dict[str, Json] | None = Field(None, min_length=1)
    where: dict[str, Json] | None = Field(None, min_length=1)


def check_awaited(awaited: Awaited, check: Check, place: Place) -> None:
    """Report what is wrong with an awaited event: its name, the fields it is matched by, its condition."""
    triggers = check.events(awaited.event, (*place, "event"))
    if not triggers:
        return
    shape = event_shape(triggers)
    for path, value in (awaited.match or {}).items():
        here = (*place, "match", path)
        root, _, name = path.partition(".")
        allowed = set.intersection(*(set(trigger.correlate) for trigger in triggers))
        if root != "event":
            check.report(f"{path}: match takes fields of the event, such as event.id", here)
        elif name not in allowed:
            able = [trigger.type for trigger in triggers if name in trigger.correlate]
            fields = ", ".join(sorted(allowed)) or "no field"
            can = f"name one that can: {', '.join(able)}" if able else f"it can be matched by {fields}"
            check.report(f"{awaited.event} cannot be matched by {name}{nearest(name, allowed)}; {can}", here)
        elif not isinstance(value, str | int):
            check.report(f'match compares with one value, such as "{{{{ steps.mail.{name} }}}}"', here)
        # Where the value is not there the event is not waited for, and the run is told so.
        check.templates(value, here, optional=True)
    if awaited.where is not None:
        check.condition(awaited.where, (*place, "where"), event=shape)


def watches(
    awaited: Awaited,
    types: Sequence[str],
    scope: Mapping[str, Json],
    *,
    kind: Literal["exit", "answer"],
    name: str,
    contact_id: str | None,
    since_ms: int,
    place: str,
) -> tuple[Watch, ...]:
    """The watches for an awaited event, one per event type. Raises TextError when there is nothing to match by."""
    where = [text.render(awaited.where, scope, path=f"{place}/where")] if awaited.where else []
    key_field, key = "contact", contact_id
    for index, (path, value) in enumerate((awaited.match or {}).items()):
        rendered = text.render(value, scope, path=f"{place}/match/{path}")
        if rendered is None or rendered == "":
            raise text.TextError(f"{place}/match/{path}: there is no value to match by")
        if index == 0:
            key_field, key = path.removeprefix("event."), text.as_text(rendered)
        else:
            where.append({path: {"eq": rendered}})
    if key is None:
        raise text.TextError(f"{place}: the run has no contact to recognise the event by")
    condition = {"all": where} if len(where) > 1 else where[0] if where else None
    return tuple(Watch(kind, name, type_, key_field, key, condition, since_ms) for type_ in types)
