"""`set`: change the contact's tags and attributes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import ClassVar

from pydantic import Field

from hub.events import Json
from hub.shapes import Shape
from hub.steps.checking import Check, Place
from hub.steps.decisions import ContactChange
from hub.steps.moment import Moment, Passed, Result
from hub.steps.step import OUTCOME, Step

_ATTRIBUTE = re.compile(r"contact\.attributes\.([a-z][a-z0-9_]{0,62})")
_TAGS = "contact.tags"


class Set(Step):
    """Change the contact: `contact.tags: {add: loyal, remove: [new]}`, `contact.attributes.NAME: value`."""

    kind: ClassVar[str] = "set"

    set_: dict[str, Json] = Field(alias="set", min_length=1)

    def check(self, check: Check, place: Place) -> Shape:
        for path, value in self.set_.items():
            here = (*place, "set", path)
            check.templates(value, here)
            if path == _TAGS:
                if not isinstance(value, dict) or not value or value.keys() - {"add", "remove"}:
                    check.report("tags are changed as contact.tags: {add: loyal} or {remove: loyal}", here)
                elif not all(_are_tags(one) for one in value.values()):
                    check.report("a tag is text, or a list of texts", here)
            elif not _ATTRIBUTE.fullmatch(path):
                check.report(f"{path} cannot be set; there are contact.tags and contact.attributes.NAME", here)
        return OUTCOME

    def reach(self, at: Moment) -> Result:
        if at.run.contact_id is None:
            return Passed("no_contact", "the run has no contact to change")
        changes = list(self._changes(at))
        at.changes.extend(changes)
        for change in changes:
            _apply(change, at)
        return Passed("set", f"changed {', '.join(path.removeprefix('contact.') for path in self.set_)}")

    def _changes(self, at: Moment) -> Iterator[ContactChange]:
        for path, value in self.set_.items():
            rendered = at.render(value, f"set/{path}")
            if path != _TAGS:
                yield ContactChange(path.removeprefix("contact."), "set", rendered)
                continue
            for operation in ("add", "remove"):
                tags = rendered.get(operation)
                for tag in tags if isinstance(tags, list) else [tags]:
                    if isinstance(tag, str) and tag:
                        yield ContactChange("tags", "add" if operation == "add" else "remove", tag)


def _are_tags(value: Json) -> bool:
    return all(isinstance(one, str) and one for one in (value if isinstance(value, list) and value else [value]))


def _apply(change: ContactChange, at: Moment) -> None:
    """Let the following steps of this decision see the change."""
    contact = at.contact
    if change.field == "tags":
        tags = [tag for tag in contact.get("tags") or [] if tag != change.value]
        contact["tags"] = [*tags, change.value] if change.operation == "add" else tags
    else:
        name = change.field.removeprefix("attributes.")
        contact["attributes"] = {**(contact.get("attributes") or {}), name: change.value}
