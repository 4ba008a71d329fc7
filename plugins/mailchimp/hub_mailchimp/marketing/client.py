"""Calls of the Marketing API 3.0: reading lists page by page, the account, and what its errors mean.

(Swagger 3.0.55 of mailchimp/mailchimp-client-lib-codegen; problems: mailchimp.com/developer "Errors", read 2026-08.)
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import TypeVar
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, ValidationError

from hub import (
    Account,
    ActionContext,
    AuthExpired,
    ConnectorError,
    Json,
    NotFound,
    OutcomeUnknown,
    PermanentError,
    RateLimited,
    Rejected,
    Response,
)

METADATA_URL = "https://login.mailchimp.com/oauth2/metadata"
PAGE_SIZE = 1000
COMPLIANCE = "Member In Compliance State"
"""The problem of a person who left: only they themselves can come back."""

# The data centre becomes part of a host name: nothing else may pass.
_DATA_CENTRE = re.compile(r"[a-z]{2,4}[0-9]{1,3}")
# Where the generated key of a sandbox connection, which names no data centre, is sent to. Mailchimp has no such one.
_SANDBOX_DATA_CENTRE = "us0"

M = TypeVar("M", bound=BaseModel)


class Answer(BaseModel):
    """What every model of an answer has in common: only the fields that are used, the rest ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


def data_centre(fields: Mapping[str, str]) -> str:
    """Where an account's calls go: learnt when it was authorised, or what its API key ends with."""
    for named in (fields.get("server", ""), fields.get("api_key", "").rpartition("-")[2]):
        if _DATA_CENTRE.fullmatch(named):
            return named
    return _SANDBOX_DATA_CENTRE


def member_id(email: str) -> str:
    """A member's id in any audience: the MD5 of the trimmed, lower-case address."""
    return hashlib.md5(email.strip().lower().encode(), usedforsecurity=False).hexdigest()


def part(id: str) -> str:
    """An id as a part of a path. Raises Rejected for what would lead to another place."""
    if id in ("", ".", ".."):
        raise Rejected("an id is empty or made of dots; write the id, or the name that Mailchimp shows")
    return quote(id, safe="")


def rfc3339(moment_ms: float) -> str:
    """A time as the API's filters take it: UTC, to the second. Fractions are answered with 500."""
    return datetime.fromtimestamp(moment_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# -- reading -----------------------------------------------------------------------------------------------------------


def read(model: type[M], answer: Response) -> M:
    """An answer as its model. Raises OutcomeUnknown when it is not as the API describes it."""
    return read_json(model, answer.json())


def read_json(model: type[M], value: Json) -> M:
    """A part of an answer as its model. Raises OutcomeUnknown when it is not as the API describes it."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        fields = ", ".join(".".join(map(str, e["loc"])) for e in error.errors(include_input=False))
        # Without its cause, which repeats the answer: addresses and names of people.
        raise OutcomeUnknown(f"Mailchimp's answer cannot be read: {fields}") from None


async def page_of(
    ctx: ActionContext,
    path: str,
    name: str,
    model: type[M],
    params: Mapping[str, str] | None = None,
    *,
    offset: int = 0,
) -> tuple[list[M], bool]:
    """A page of a collection, without its links, and whether there may be more: `total_items` may undercount."""
    asked = {"exclude_fields": f"_links,{name}._links", **(params or {})}
    paging = {"count": str(PAGE_SIZE), "offset": str(offset)}
    answer = (await ctx.http.request("GET", path, params=asked | paging)).json()
    found = answer.get(name) if isinstance(answer, dict) else None
    if not isinstance(found, list):
        raise OutcomeUnknown(f"Mailchimp's answer holds no {name}")
    return [read_json(model, one) for one in found], len(found) >= PAGE_SIZE


async def pages(
    ctx: ActionContext,
    path: str,
    name: str,
    model: type[M],
    params: Mapping[str, str] | None = None,
    *,
    offset: int = 0,
) -> AsyncIterator[list[M]]:
    """A collection page by page, to the first that is not full."""
    more = True
    while more:
        found, more = await page_of(ctx, path, name, model, params, offset=offset)
        yield found
        offset += len(found)


async def everything(
    ctx: ActionContext, path: str, name: str, model: type[M], params: Mapping[str, str] | None = None
) -> list[M]:
    """A whole collection."""
    return [one async for page in pages(ctx, path, name, model, params) for one in page]


class Audience(Answer):
    """A list of members."""

    id: str
    name: str = ""


async def audiences(ctx: ActionContext) -> list[str]:
    """The ids of the audiences that the connection is about: those of its setting `lists`, else all."""
    if chosen := ctx.settings.get("lists", "").split():
        return chosen
    return [found.id for found in await everything(ctx, "/lists", "lists", Audience)]


# -- the account -------------------------------------------------------------------------------------------------------


class _Metadata(Answer):
    dc: str
    user_id: int | str
    accountname: str = ""


class _Root(Answer):
    account_id: str
    account_name: str = ""
    account_timezone: str | None = None


async def whoami(ctx: ActionContext) -> Account:
    """The account behind the credentials; of one just authorised in the browser also its data centre."""
    if "account" in ctx.settings or "server" in ctx.settings:
        root = read(_Root, await ctx.http.request("GET", "/"))
        return Account(root.account_id, root.account_name or root.account_id, zone=root.account_timezone)
    metadata = read(_Metadata, await ctx.http.request("GET", METADATA_URL))
    if not _DATA_CENTRE.fullmatch(metadata.dc):
        raise OutcomeUnknown("Mailchimp's answer names a data centre that is none")
    id_ = str(metadata.user_id)
    return Account(id_, metadata.accountname or id_, fields={"server": metadata.dc})


# -- what an error means -----------------------------------------------------------------------------------------------

# By the problem's title; its detail is never passed on, as it may hold the person's address.
_SENTENCES: Mapping[str, tuple[type[ConnectorError], str]] = {
    "API Key Invalid": (
        AuthExpired,
        "Mailchimp does not know this API key or token any more: give a new one with `hub connections reauthorise`",
    ),
    "API Key Missing": (AuthExpired, "Mailchimp got no API key or token: connect the account again"),
    "User Disabled": (AuthExpired, "Mailchimp has disabled the user of this key: its owner must ask Mailchimp"),
    "Compliance Related": (AuthExpired, "Mailchimp has suspended the account: its owner must ask Mailchimp"),
    "Forbidden": (PermanentError, "the user of this key may not do this in Mailchimp: give it a higher role"),
    "Resource Not Found": (
        NotFound,
        "Mailchimp has no such thing: check the ids, and that the person is in the audience",
    ),
    COMPLIANCE: (Rejected, "this person left the audience, bounced or complained: only they themselves can come back"),
    "Member Exists": (Rejected, "this person is in the audience already"),
    "Method Not Allowed": (Rejected, "Mailchimp does not allow this here, such as archiving somebody who is archived"),
}


def classify(response: Response) -> ConnectorError | None:
    """What an answer means; None leaves it to the shared status table."""
    problem = _problem(response)
    if response.status < 400:
        # The metadata endpoint says so with a 200.
        if problem.get("error") == "invalid_token":
            return AuthExpired("Mailchimp does not know this token any more: authorise the account again")
        return None
    # At the edge calls are throttled with 403 too, and without a problem; one with a problem is about permissions.
    if response.status == 403 and not problem:
        return RateLimited(status=403)
    if response.status == 429 or response.status >= 500 or not problem:
        return None
    title, instance = str(problem.get("title", "")), problem.get("instance")
    kind, sentence = _SENTENCES.get(title) or _by_status(response.status, problem)
    return kind(sentence, code=title if title in _SENTENCES else None, request_id=str(instance) if instance else None)


def _problem(response: Response) -> Mapping[str, Json]:
    """The body's object; empty where it is none, such as a page of the edge."""
    try:
        body = response.json()
    except OutcomeUnknown:
        return {}
    return body if isinstance(body, dict) else {}


def _by_status(status: int, problem: Mapping[str, Json]) -> tuple[type[ConnectorError], str]:
    if status == 401:
        return AuthExpired, "Mailchimp does not accept these credentials: give new ones"
    if status == 404:
        return _SENTENCES["Resource Not Found"]
    if status == 403:
        return _SENTENCES["Forbidden"]
    errors = problem.get("errors")
    fields = sorted({str(e["field"]) for e in errors if isinstance(e, dict) and e.get("field")}) if errors else []
    where = f" at {', '.join(fields)}" if fields else ""
    return Rejected, f"Mailchimp refused the input{where}: correct the step or the contact's data"
