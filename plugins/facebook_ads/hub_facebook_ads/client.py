"""Calls of the Graph API: nodes, edges with their pages, who the token belongs to, and how full Meta's count is."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from hub import (
    Account,
    ActionContext,
    AuthExpired,
    Credential,
    Json,
    OutcomeUnknown,
    PermanentError,
    Rejected,
    Response,
    Throttle,
)
from hub_facebook_ads.usage import used_percent

logger = logging.getLogger(__name__)

CALLS = "calls"
CALLS_PER_HOUR = 300
# Above this share of Meta's count nothing more is called than trickles in, for at 100 everybody waits for an hour.
_PAUSE_AT_PERCENT = 95.0
_MOST_PAGES = 200
_ID = re.compile(r"[0-9]{1,20}")

M = TypeVar("M", bound=BaseModel)


class Node(BaseModel):
    """Anything at Meta: at least an id, which comes as a text or a number."""

    model_config = ConfigDict(extra="ignore", coerce_numbers_to_str=True, frozen=True)

    id: str


class Named(Node):
    """A node with a name."""

    name: str = ""


class _AdAccount(Named):
    currency: str | None = None
    timezone_name: str | None = None


class Done(BaseModel):
    """The answer of a change that has nothing to tell; `success: false` was turned into an error before."""


class _Token(BaseModel):
    """What `debug_token` tells; `expires_at` (seconds) is 0 where it never does."""

    type: str = ""
    expires_at: int = 0
    scopes: tuple[str, ...] = ()


class _Debugged(BaseModel):
    data: _Token


class _Cursors(BaseModel):
    after: str | None = None


class _Paging(BaseModel):
    cursors: _Cursors = _Cursors()
    next: str | None = None


class _Edge(BaseModel):
    data: list[dict[str, Json]]
    paging: _Paging = _Paging()


async def call(
    ctx: ActionContext,
    method: str,
    path: str,
    answer: type[M],
    *,
    params: Mapping[str, str] | None = None,
    json: Json = None,
    form: Mapping[str, str] | None = None,
) -> M:
    """One call. Raises what `errors.classify` and the shared status table say, OutcomeUnknown for an odd answer."""
    return read(answer, await _sent(ctx, method, path, params=params, json=json, form=form))


async def edge_page(
    ctx: ActionContext, path: str, answer: type[M], *, params: Mapping[str, str], after: str | None = None
) -> tuple[list[M], str | None]:
    """One page of an edge, and the cursor of the next one; None at the end."""
    asked = {**params, **({"after": after} if after else {})}
    response = await _sent(ctx, "GET", path, params=asked)
    page = read(_Edge, response)
    # The address in `next` repeats the token; the cursor is enough.
    following = page.paging.cursors.after if page.paging.next else None
    return [_validated(answer, one, response) for one in page.data], following


async def edge(
    ctx: ActionContext, path: str, answer: type[M], *, params: Mapping[str, str], after: str | None = None
) -> AsyncIterator[tuple[list[M], str | None]]:
    """All pages of an edge from a cursor on, each with the cursor of the next."""
    for _ in range(_MOST_PAGES):
        found, after = await edge_page(ctx, path, answer, params=params, after=after)
        yield found, after
        if after is None:
            return
    raise OutcomeUnknown(f"{path.rpartition('/')[2]} has more than {_MOST_PAGES} pages: too many to read")


async def _sent(
    ctx: ActionContext,
    method: str,
    path: str,
    *,
    params: Mapping[str, str] | None = None,
    json: Json = None,
    form: Mapping[str, str] | None = None,
) -> Response:
    response = await ctx.http.request(method, path, params=params, json=json, form=form)
    if response.headers.get("x-ad-api-version-warning"):
        # Its words are Meta's and unknown; that there are any is what matters.
        logger.warning(
            "Meta says that the API version nears its end: set `api_version` of the connection to a newer one",
            extra={
                "what": "api_version_ending",
                "connection_id": ctx.connection_id,
                "version": ctx.settings.get("api_version"),
            },
        )
    return response


def read(answer: type[M], response: Response) -> M:
    """An answer's body as a model. Raises OutcomeUnknown: Meta did something, and what it says does not tell what."""
    return _validated(answer, response.json(), response)


def _validated(answer: type[M], body: Json, response: Response) -> M:
    try:
        return answer.model_validate(body)
    except ValidationError as error:
        fields = ", ".join(".".join(map(str, e["loc"])) or "body" for e in error.errors(include_input=False))
        # Without its cause, which repeats the answer: a lead's is a person's.
        raise OutcomeUnknown(f"Meta's answer cannot be read at {fields}", status=response.status) from None


def node(id_: str) -> str:
    """An id as it stands in a path. Raises Rejected for what is none: it may come out of an event."""
    if _ID.fullmatch(id_):
        return id_
    raise Rejected(
        "the id of a thing at Meta is digits alone; write the id, or the label of one of the connection's choices"
    )


def ad_account(ctx: ActionContext) -> str:
    """The connection's ad account, `act_…`. Raises Rejected for a connection of a Page alone."""
    if found := ctx.settings.get("ad_account_id"):
        return found
    raise Rejected(
        f"{ctx.connection} is a connection of a Page alone: use one with an ad_account_id and a system user's token"
    )


# -- the app itself ----------------------------------------------------------------------------------------------------


def as_app(ctx: ActionContext) -> ActionContext:
    """The same context, calling with the app's own token. Raises Rejected where that is not known."""
    if ctx.app_http is None:
        raise Rejected(
            f"{ctx.connection} has no app_id (`hub connections set`), or no app_secret (`hub connections reauthorise`)"
        )
    return replace(ctx, http=ctx.app_http)


@contextmanager
def app_token() -> Iterator[None]:
    """Around calls of the app itself: a token of its own that is refused says nothing about the connection's."""
    try:
        yield
    except AuthExpired as error:
        raise Rejected(
            "Meta does not take the app's own token: compare app_id and app_secret with the App Dashboard > Settings > Basic"
        ) from error


# -- whose token it is -------------------------------------------------------------------------------------------------

_FOR_AD_ACCOUNTS = ("ads_management", "ads_read", "business_management")
_FOR_PAGES = (
    "leads_retrieval",
    "pages_show_list",
    "pages_read_engagement",
    "pages_manage_metadata",
    "pages_manage_ads",
)


async def whoami(ctx: ActionContext) -> Account:
    """The ad account or Page that the token can read, and what is wrong with the token though it is good now."""
    found = await _account(ctx)
    return replace(found, warnings=tuple(await _warnings(ctx)))


async def _warnings(ctx: ActionContext) -> list[str]:
    if ctx.app_http is None:
        return ["whether the token ends, and what it may do, cannot be looked at without an app_id and an app_secret"]
    params = {"input_token": Credential("access_token")}
    try:
        with app_token():
            token = (await call(as_app(ctx), "GET", "/debug_token", _Debugged, params=params)).data
    except PermanentError as error:
        return [f"whether the token ends, and what it may do, cannot be looked at: {error}"]
    told = []
    if token.expires_at:
        ends = datetime.fromtimestamp(token.expires_at, UTC)
        told.append(
            f"the token ({token.type.lower() or 'of an unknown kind'}) ends at {ends:%Y-%m-%dT%H:%M:%SZ}, and the hub cannot "
            "renew it: give the connection one of a system user that never expires (`hub connections reauthorise`)"
        )
    needed = [
        *(_FOR_AD_ACCOUNTS if ctx.settings.get("ad_account_id") else ()),
        *(_FOR_PAGES if ctx.settings.get("page_id") else ()),
    ]
    if missing := [scope for scope in needed if scope not in token.scopes]:
        told.append(f"the token lacks {', '.join(missing)}: make a new one at Meta with these permissions")
    return told


async def _account(ctx: ActionContext) -> Account:
    account_id, page_id = ctx.settings.get("ad_account_id"), ctx.settings.get("page_id")
    page = await call(ctx, "GET", f"/{page_id}", Named, params={"fields": "id,name"}) if page_id else None
    if not account_id:
        assert page is not None, "a connection has an ad account or a Page"
        return Account(id=page.id, title=page.name)
    fields = {"fields": "id,name,currency,timezone_name"}
    found = await call(ctx, "GET", f"/{account_id}", _AdAccount, params=fields)
    title = f"{found.name} with the Page {page.name}" if page else found.name
    return Account(id=page.id if page else found.id, title=title, zone=found.timezone_name, currency=found.currency)


def throttle(response: Response) -> Throttle | None:
    """What Meta's own count leaves of our rate; None where an answer tells of no count."""
    used = used_percent(response.headers)
    if used is None:
        return None
    left = max(0.0, _PAUSE_AT_PERCENT - used) / _PAUSE_AT_PERCENT
    return Throttle(available=left * CALLS_PER_HOUR, name=CALLS)
