"""Calls to the Admin GraphQL API: how one is made, and what each kind of refusal means.

Error layers follow API versions 2026-07 and 2026-10 (shopify.dev "GraphQL Admin API", read 2026-11-22). What is asked, and
the shape of the answers, stands in `hub_shopify.api`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from hub import (
    ActionContext,
    AuthExpired,
    ConnectorError,
    NotFound,
    OutcomeUnknown,
    PermanentError,
    RateLimited,
    Rejected,
    Response,
    Throttle,
    VendorUnavailable,
)
from hub.events import Json

logger = logging.getLogger(__name__)

POINTS = "points"
"""The name of the rate that calls are counted by."""
# What an operation costs of the budget, in points: a mutation 10, an object 1, a list what it may hold.
# (shopify.dev "API rate limits", 2026)
MUTATION, OBJECT = 10, 1
_FROZEN_SHOP_S = 3600.0
_PLAIN_TERM = re.compile(r"[\w-]+")
# What may be somebody's address or number in the vendor's words.
_PERSONAL = re.compile(r"\S+@\S+|\+?\d[\d ()-]{6,}\d")


class Answer(BaseModel):
    """The shape of an answer's `data`, or of a part of it."""

    model_config = ConfigDict(alias_generator=to_camel, frozen=True)


A = TypeVar("A", bound=Answer, covariant=True)


@dataclass(frozen=True)
class Operation(Generic[A]):
    """One document sent to the API, and the model of the `data` it answers with."""

    document: str
    answer: type[A]


# -- calling -----------------------------------------------------------------------------------------------------------


async def call(ctx: ActionContext, operation: Operation[A], variables: Mapping[str, Json]) -> A:
    """One operation. Raises the shared status table's errors, those of `classify`, and Rejected for user errors.

    A Rejected carries the vendor's code where the mutation has codes (`TAKEN`). Nothing was changed in that case. A query
    whose answer is lost raises VendorUnavailable: it can be asked again.
    """
    try:
        return await _call(ctx, operation, variables)
    except OutcomeUnknown as error:
        if not operation.document.startswith("query"):
            raise
        # Whatever became of a question: nothing was done.
        raise VendorUnavailable(
            str(error),
            connector=error.connector,
            connection_id=error.connection_id,
            status=error.status,
            code=error.code,
            request_id=error.request_id,
        ) from error


async def _call(ctx: ActionContext, operation: Operation[A], variables: Mapping[str, Json]) -> A:
    response = await ctx.http.request(
        "POST", "/graphql.json", json={"query": operation.document, "variables": dict(variables)}
    )
    request_id = response.headers.get("X-Request-Id")
    if reason := response.headers.get("X-Shopify-API-Deprecated-Reason"):
        logger.info(
            "Shopify says that a call is deprecated",
            extra={"what": "api_deprecated", "connection_id": ctx.connection_id, "reason": reason},
        )
    body = response.json()
    data = body.get("data") if isinstance(body, dict) else None
    if isinstance(data, dict) and (refused := _user_errors(data)):
        refused.connector, refused.connection_id = "shopify", ctx.connection_id
        refused.status, refused.request_id = response.status, request_id
        raise refused
    try:
        return operation.answer.model_validate(data)
    except ValidationError as error:
        places = ", ".join(".".join(map(str, e["loc"])) or "data" for e in error.errors(include_input=False))
        raise OutcomeUnknown(
            f"Shopify's answer is not as its API describes it, at {places}",
            connector="shopify",
            connection_id=ctx.connection_id,
            status=response.status,
            request_id=request_id,
        ) from error


def classify(response: Response) -> ConnectorError | None:
    """What an answer's status and its top-level `errors` mean; None leaves it to the shared status table."""
    found = _by_status(response.status) if response.status >= 300 else _by_errors(response)
    if found:
        found.request_id = response.headers.get("X-Request-Id")
    return found


def _by_status(status: int) -> ConnectorError | None:
    match status:
        case 402:
            # A frozen or locked shop comes back by its owner's doing, and nothing was done until then.
            return VendorUnavailable(
                "the shop is frozen: its owner must settle the bill with Shopify; the hub asks again every hour",
                retry_after_s=_FROZEN_SHOP_S,
            )
        case 403:
            return PermanentError(
                "the app may not do this in the shop: grant the access scopes that the plugin's README lists"
            )
        case 404:
            return NotFound("there is no such shop or API version: check `shop` and `api_version` of the connection")
        case 423:
            return VendorUnavailable(
                "the shop is locked by Shopify: its owner must ask Shopify's support; the hub asks again every hour",
                retry_after_s=_FROZEN_SHOP_S,
            )
        case 430:
            return PermanentError(
                "Shopify's security check refused the call, and repeating it makes it worse: "
                "ask Shopify's support about the request id"
            )
    return None


def _by_errors(response: Response) -> ConnectorError | None:
    try:
        body = response.json()
    except OutcomeUnknown as error:
        return error
    errors = body.get("errors") if isinstance(body, dict) else None
    if not errors:
        return None
    if isinstance(errors, str):
        return AuthExpired(f"Shopify refused the token: {errors}")
    first = errors[0] if isinstance(errors, list) and isinstance(errors[0], dict) else {}
    message = discreet(first.get("message", "no message"))
    code = str((first.get("extensions") or {}).get("code") or "") or None
    if code == "THROTTLED":
        # Nothing of a throttled operation is carried out.
        return RateLimited(retry_after_s=_refilled_after_s(body), code=code)
    if any(value is not None for value in (body.get("data") or {}).values()):
        return OutcomeUnknown(f"Shopify did it in part: {message}", code=code)
    if code == "INTERNAL_SERVER_ERROR":
        return OutcomeUnknown(f"Shopify broke while working on it: {message}", code=code)
    if code == "ACCESS_DENIED":
        return PermanentError(
            f"the app lacks an access scope; grant it in the shop and try again: {message}", code=code
        )
    if code == "SHOP_INACTIVE":
        return AuthExpired(f"the shop is closed: {message}", code=code)
    return PermanentError(f"Shopify refused the operation: {message}", code=code)


def throttle(response: Response) -> Throttle | None:
    """What is left in the shop's bucket, how large it is and how fast it refills; plans differ in both.

    (shopify.dev "API limits", GraphQL Admin API, `extensions.cost.throttleStatus`, read 2026-11-22)
    """
    try:
        bucket = response.json()["extensions"]["cost"]["throttleStatus"]
        return Throttle(
            available=float(bucket["currentlyAvailable"]),
            limit=float(bucket["maximumAvailable"]),
            per_s=float(bucket["restoreRate"]),
            name=POINTS,
        )
    except (OutcomeUnknown, KeyError, TypeError, ValueError):
        return None  # not an answer of the GraphQL API, or one without its cost


def _refilled_after_s(body: Mapping[str, Json]) -> float | None:
    """Seconds until the bucket holds what the operation asks for; None when the answer does not say."""
    cost = (body.get("extensions") or {}).get("cost") or {}
    bucket = cost.get("throttleStatus") or {}
    try:
        lacking = float(cost["requestedQueryCost"]) - float(bucket["currentlyAvailable"])
        return max(0.0, lacking / float(bucket["restoreRate"]))
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None


def _user_errors(data: Mapping[str, Json]) -> Rejected | None:
    errors = [e for payload in data.values() if isinstance(payload, dict) for e in payload.get("userErrors") or ()]
    if not errors:
        return None
    told = "; ".join(f"{'.'.join(e.get('field') or ()) or 'input'}: {discreet(e.get('message'))}" for e in errors)
    return Rejected(f"Shopify refused the input: {told}", code=errors[0].get("code"))


def discreet(message: Json) -> str:
    """The vendor's words without what may be somebody's address or number."""
    return _PERSONAL.sub("…", str(message))


def search_term(field: str, value: str) -> str:
    """`field:value` in Shopify's search syntax, quoted unless it is one plain word."""
    if _PLAIN_TERM.fullmatch(value):
        return f"{field}:{value}"
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'{field}:"{escaped}"'


def rfc3339(moment: datetime) -> str:
    """An aware UTC time as Shopify writes it, to the second."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def gid(kind: str, id: str) -> str:
    """An id of the REST shape (`5747`) or a global one as a global id (`gid://shopify/Customer/5747`)."""
    return id if id.startswith("gid://") else f"gid://shopify/{kind}/{id}"


def rest_id(id: str) -> str:
    """A global id as one of the REST shape, which webhooks and events carry."""
    return id.rpartition("/")[2].partition("?")[0]
