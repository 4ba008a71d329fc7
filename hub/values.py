"""Dataclasses that nobody changes, made by the thousand a second."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

__all__ = ["value"]

if TYPE_CHECKING:
    from dataclasses import dataclass as value
else:

    def value(*, frozen: bool, **given: Any) -> Callable[[type], type]:
        """`dataclass(frozen=True)` to the type checker, which refuses every change; at run time nothing is in the way.

        A frozen dataclass sets each field by a call: that took an eighth of the processor time of a run.
        """
        return dataclass(unsafe_hash=frozen, **given)
