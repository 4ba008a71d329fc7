"""The kinds of steps: one module each, found through `KINDS`."""

from __future__ import annotations

from collections.abc import Mapping

from hub.events import Json
from hub.steps.choose import Choose
from hub.steps.do import Do
from hub.steps.if_ import If
from hub.steps.set_ import Set
from hub.steps.step import Step
from hub.steps.stop import Stop
from hub.steps.wait import WaitStep
from hub.steps.wait_for import WaitFor

KINDS: dict[str, type[Step]] = {kind.kind: kind for kind in (Do, WaitStep, WaitFor, If, Choose, Set, Stop)}

LATER = ("split", "for_each", "ask", "run")
"""Kinds that the language has and this release has not."""


def kind_of(raw: Mapping[str, Json]) -> type[Step] | None:
    """The kind of a step as written, or None. `wait_for` steps may hold fields named like other kinds."""
    for name in ("wait_for", *KINDS):
        if name in raw:
            return KINDS[name]
    return None
