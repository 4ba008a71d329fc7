"""What a call to the sandbox is to its handlers, and what they give back; pages of lists."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from hub_hubspot.sandbox.portal import Fields, Portal, Refusal, Row

T = TypeVar("T")


class Record(Protocol):
    """Notes an effect that was carried out."""

    def __call__(self, operation: str, **data: Any) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One authorised call: the account whose token it bears, and all that it says."""

    portal: Portal
    token: str
    match: Mapping[str, str]
    query: Mapping[str, str]
    body: Any
    now_ms: int
    search_lag_ms: int
    record: Record
    created: Callable[[str, Row], None]
    """Tells the account's webhook of a new record."""
    changed: Callable[[str, Row, Sequence[tuple[str, str]]], None]
    """Tells it of properties with new values."""


@dataclass(frozen=True)
class Served:
    """What to answer; no body at all for a 204."""

    body: Any = None
    status: int = 200


def page_of(items: Sequence[T], query: Mapping[str, str], limit: int) -> tuple[Sequence[T], Fields]:
    """The page that `limit` and `after` ask for, and the `paging` that goes with it."""
    limit, after = int(query.get("limit") or limit), query.get("after") or "0"
    if not after.isdecimal():
        raise Refusal(400, "VALIDATION_ERROR", "after is not a cursor of this list")
    end = int(after) + limit
    return items[int(after) : end], {"paging": {"next": {"after": str(end)}}} if end < len(items) else {}
