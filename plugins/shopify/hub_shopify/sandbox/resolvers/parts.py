"""What every resolver is given, how lists are paged, how Shopify's search is read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from hub.clock import parse_time_ms, rfc3339
from hub.events import Json
from hub_shopify.sandbox.ids import gid
from hub_shopify.sandbox.shop import Fields, SandboxShop

_TERM = re.compile(r"""(?:(\w+):)?(>=|<=|>|<)?(?:"((?:\\.|[^"\\])*)"|'([^']*)'|(\S+))""")
_TIMES = {"created_at": "created_at", "updated_at": "updated_at", "customer_date": "created_at"}


class Record(Protocol):
    def __call__(self, operation: str, account: str, **data: Json) -> None: ...


@dataclass(frozen=True)
class Asked:
    """One selected root field: the shop it is about, its arguments and directives."""

    shop: SandboxShop
    args: Mapping[str, Json]
    directives: Mapping[str, Mapping[str, Json]]
    record: Record
    now_ms: int

    @property
    def now(self) -> str:
        return rfc3339(self.now_ms)


Resolver = Callable[[Asked], Json]


class UserError(Exception):
    """The vendor's no to an input: an entry of `userErrors`."""

    def __init__(self, field: list[str], message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.shown = {"field": field, "message": message, "code": code}


@dataclass(frozen=True)
class Term:
    """One term of a search, such as `created_at:>='…'`; without a field it is searched for in all text."""

    field: str
    compare: str
    value: str

    def holds(self, known: Json) -> bool:
        """Whether a text meets it: the same, or begun with it (`win*`), without regard to case."""
        text, wanted = str(known if known is not None else "").lower(), self.value.lower()
        return text.startswith(wanted[:-1]) if wanted.endswith("*") else text == wanted

    def is_met_at(self, time: str) -> bool:
        """Whether a time meets it."""
        at, limit = parse_time_ms(time), parse_time_ms(self.value)
        return {">=": at >= limit, "<=": at <= limit, ">": at > limit, "<": at < limit}.get(self.compare, at == limit)


def terms(query: str | None) -> list[Term]:
    """The terms of a search, which must all be met."""
    return [
        Term(m[1] or "", m[2] or "", re.sub(r"\\(.)", r"\1", m[3]) if m[3] is not None else m[4] or m[5] or "")
        for m in _TERM.finditer(query or "")
    ]


def found(
    asked: Asked, everything: Iterable[Fields], meets: Callable[[Fields, Term], bool], *, changed: str = "updated_at"
) -> list[Fields]:
    """What a search finds: not yet what was written within the lag of the index."""
    wanted = terms(asked.args.get("query"))
    seen_until_ms = asked.now_ms - asked.shop.search_lag_ms

    def is_found(one: Fields) -> bool:
        if wanted and asked.shop.search_lag_ms and parse_time_ms(one[changed]) > seen_until_ms:
            return False
        return all(
            term.is_met_at(one[_TIMES[term.field]]) if term.field in _TIMES else meets(one, term) for term in wanted
        )

    return [one for one in everything if is_found(one)]


def page(nodes: list[Json], args: Mapping[str, Json]) -> Json:
    """A connection: `first` of them after the cursor, newest first with `reverse`."""
    every = nodes[::-1] if args.get("reverse") else nodes
    start = int(args.get("after") or 0)
    end = start + args["first"]
    more = end < len(every)
    return {
        "nodes": every[start:end],
        "pageInfo": {"hasNextPage": more, "endCursor": str(min(end, len(every))) if every[start:end] else None},
    }


def unknown(kind: str, term: Term) -> ValueError:
    """A search that the sandbox does not know."""
    return ValueError(f"the sandbox does not search {kind} by {term.field or term.value!r}")


def amount(shop: SandboxShop, text: object) -> Json:
    """An amount in the shop's currency, as the API shows it: a decimal with at least one place."""
    return {"amount": str(float(str(text))), "currencyCode": shop.currency}


def money(shop: SandboxShop, text: object) -> Json:
    """The same in a bag."""
    return {"shopMoney": amount(shop, text)}


def person(customer: Fields | None) -> Json:
    """A customer's node, with all that the sandbox knows of them."""
    if customer is None:
        return None
    email, phone = customer.get("email_marketing_consent") or {}, customer.get("sms_marketing_consent") or {}
    return {
        "__typename": "Customer",
        "id": gid("Customer", customer["id"]),
        "firstName": customer.get("first_name"),
        "lastName": customer.get("last_name"),
        "tags": [tag for tag in (customer.get("tags") or "").split(", ") if tag],
        "createdAt": customer.get("created_at"),
        "updatedAt": customer.get("updated_at"),
        "defaultEmailAddress": {"emailAddress": customer["email"], **_consent(email)}
        if customer.get("email")
        else None,
        "defaultPhoneNumber": {"phoneNumber": customer["phone"], **_consent(phone)} if customer.get("phone") else None,
        "defaultAddress": None,
    }


def _consent(known: Fields) -> Fields:
    return {
        "marketingState": (known.get("state") or "not_subscribed").upper(),
        "marketingUpdatedAt": known.get("consent_updated_at"),
    }
