"""Sending one e-mail to one person, written here or by a template, and finding out whether it was sent.

There is no idempotency key. Each e-mail carries the reference of its effect as metadata, by which it is looked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hub import (
    ActionContext,
    Chosen,
    ConnectorError,
    ConsentSignal,
    ConsentState,
    Effect,
    Json,
    Message,
    OutcomeUnknown,
    Rejected,
    RetryableError,
    SkipStep,
)
from hub_mailchimp.addresses import Email
from hub_mailchimp.marketing.triggers import MaybeMoment
from hub_mailchimp.transactional.client import Answer, call, read_all
from hub_mailchimp.transactional.connector import mandrill
from hub_mailchimp.transactional.triggers import RUN, Emailed

# The search lags: "wait at least a minute and ask twice" is the advice; both askings come after this.
FOUND_WITHIN_MS = 120_000
_FEW, _MOST = 100, 1000
_REFUSED_FOR_GOOD = {
    "hard-bounce": ConsentState.BLOCKED,
    "spam": ConsentState.BLOCKED,
    "unsub": ConsentState.REVOKED,
}


EmailTag = Annotated[str, Field(min_length=1, max_length=49, pattern=r"^[^_]")]


class _Mail(BaseModel):
    """Whom to write to, from whom, and what goes along. Without a sender it leaves from the connection's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    to: Email
    to_name: str | None = None
    from_email: Email | None = None
    from_name: str | None = None
    reply_to: Email | None = None
    merge_vars: dict[str, str] = Field(default={}, description="What fills *|NAME|* or {{name}} in the text")
    merge_language: Literal["mailchimp", "handlebars"] = "mailchimp"
    tags: list[EmailTag] = Field(default=[], max_length=10)
    metadata: dict[str, str] = Field(default={}, max_length=9, description="Comes back with every event of this e-mail")
    subaccount: Annotated[str | None, Chosen("subaccounts")] = None
    important: bool = False


class SendEmail(_Mail):
    """An e-mail that is written here."""

    subject: str = Field(min_length=1, max_length=998)
    html: str | None = None
    text: str | None = None

    @model_validator(mode="after")
    def _some_content(self) -> SendEmail:
        if not (self.html or self.text):
            raise ValueError("give html, text or both")
        return self


class SendTemplate(_Mail):
    """An e-mail that a template at Mailchimp Transactional makes."""

    template: Annotated[str, Field(min_length=1), Chosen("templates")] = Field(description="Its slug, not its title")
    content: dict[str, str] = Field(default={}, description="What fills the template's editable regions")
    subject: str | None = Field(None, description="In place of the template's own")


class SentEmail(BaseModel):
    """The e-mail as it was taken: `status` is `sent`, `queued` or `scheduled`."""

    message_id: str
    status: str
    to: str


class _Result(Answer):
    id: str = Field(alias="_id")
    email: str
    status: str
    reject_reason: str | None = None


class _Found(Answer):
    id: str = Field(alias="_id")
    email: str = ""
    state: str = ""
    metadata: Mapping[str, Json] | Sequence[Json] = ()
    """Without any it may be an empty list."""

    @property
    def reference(self) -> str | None:
        """The effect it came of."""
        return str(self.metadata[RUN]) if isinstance(self.metadata, Mapping) and RUN in self.metadata else None


_SENDER = ("from_email",)
"""Of the step, and of the connection for steps that say nothing."""


@mandrill.action(
    "send_email",
    title="Send an e-mail",
    input=SendEmail,
    output=SentEmail,
    effect=Effect.RECONCILABLE,
    message=Message(channel="email", to=lambda mail: mail.to, senders=_SENDER, default_senders=_SENDER),
    lookup_draws={"searches": 2},
    provides="email.send",
)
async def send_email(ctx: ActionContext, input: SendEmail) -> SentEmail:
    """Send one e-mail to one person."""
    content = {"subject": input.subject, "html": input.html, "text": input.text}
    body = {"message": {**_message(ctx, input), **_given(content)}, "async": False}
    return await _taken(ctx, input, await call(ctx, "/messages/send", body))


@mandrill.action(
    "send_template",
    title="Send an e-mail by a template",
    input=SendTemplate,
    output=SentEmail,
    effect=Effect.RECONCILABLE,
    message=Message(channel="email", to=lambda mail: mail.to, senders=_SENDER, default_senders=_SENDER),
    lookup_draws={"searches": 2},
)
async def send_template(ctx: ActionContext, input: SendTemplate) -> SentEmail:
    """Send one e-mail that a template makes."""
    body = {
        "template_name": input.template,
        # It must be there, also when there is nothing to fill.
        "template_content": [{"name": name, "content": text} for name, text in input.content.items()],
        "message": {**_message(ctx, input), **_given({"subject": input.subject})},
        "async": False,
    }
    return await _taken(ctx, input, await call(ctx, "/messages/send-template", body))


def _message(ctx: ActionContext, input: _Mail) -> dict[str, Json]:
    """What both calls have in common. Raises Rejected when there is no sender."""
    sender = input.from_email or ctx.settings.get("from_email")
    if not sender:
        raise Rejected("there is no sender: set from_email in the step, or as default of the connection")
    variables = [{"name": name, "content": value} for name, value in input.merge_vars.items()]
    return {
        "from_email": sender,
        "to": [{"email": input.to, "type": "to", **_given({"name": input.to_name})}],
        "track_opens": True,
        "track_clicks": True,
        "auto_text": True,
        "preserve_recipients": False,
        "merge_language": input.merge_language,
        "global_merge_vars": variables,
        "tags": list(input.tags),
        "metadata": {**input.metadata, RUN: ctx.reference},
        "important": input.important,
        **_given(
            {
                "from_name": input.from_name or ctx.settings.get("from_name"),
                "headers": {"Reply-To": input.reply_to} if input.reply_to else None,
                "subaccount": input.subaccount,
            }
        ),
    }


def _given(values: Mapping[str, Json]) -> dict[str, Json]:
    return {name: value for name, value in values.items() if value is not None}


class _Reject(Answer):
    """An entry of the list of refused addresses; `last_event_at` is what made or renewed it."""

    email: str = ""
    reason: str = ""
    last_event_at: MaybeMoment = None


async def _said_at(ctx: ActionContext, input: _Mail, reason: str) -> datetime | None:
    """When an address came to be refused for a reason; None where no list tells it."""
    asked = {"email": input.to, **_given({"subaccount": input.subaccount})}
    try:
        listed = read_all(_Reject, await call(ctx, "/rejects/list", asked))
    except ConnectorError:
        # That the e-mail was refused is certain, whatever becomes of this question.
        return None
    meant = [one for one in listed if one.email.lower() == input.to.lower() and one.reason == reason]
    return max((one.last_event_at for one in meant if one.last_event_at), default=None)


async def _taken(ctx: ActionContext, input: _Mail, answer: Json) -> SentEmail:
    """The result of the one recipient. Raises SkipStep or Rejected where the e-mail was refused with a 200."""
    results = read_all(_Result, answer)
    if len(results) != 1:
        raise OutcomeUnknown(f"Mailchimp Transactional tells of {len(results)} recipients instead of one")
    [result] = results
    reason = result.reject_reason or "invalid"
    if result.status in ("rejected", "invalid") and reason in _REFUSED_FOR_GOOD:
        # It may have been said long ago, and a yes have come since.
        at = await _said_at(ctx, input, reason)
        signal = ConsentSignal("email", input.to, _REFUSED_FOR_GOOD[reason], reason.replace("-", "_"), at=at)
        raise SkipStep(
            "no_consent", f"Mailchimp Transactional writes to this address no more: {reason}", signals=[signal]
        )
    if result.status in ("rejected", "invalid"):
        raise Rejected(f"Mailchimp Transactional refused the e-mail: {reason}", code=reason)
    return SentEmail(message_id=result.id, status=result.status, to=input.to)


# -- the look-up -------------------------------------------------------------------------------------------------------


async def sent_before(ctx: ActionContext, input: _Mail) -> SentEmail | None:
    """The e-mail that an earlier call sent: by its webhook, else by the search for its metadata.

    How the search takes metadata is not documented, so that the query is a setting; that there is no such e-mail is only
    concluded from all that left from the sender in those days. Raises OutcomeUnknown when these are too many to see,
    RetryableError when it is too early to say that there is none.
    """
    told = await ctx.sightings(f"{mandrill.name}.email_sent") if ctx.sightings else ()
    if told:
        sent = Emailed.model_validate(told[0])
        return SentEmail(message_id=sent.message_id, status="sent", to=input.to)
    query = ctx.settings.get("search_query", "metadata.hub_run:{reference}").replace("{reference}", ctx.reference)
    named = await _search(ctx, {"query": query, "limit": _FEW})
    if found := _ours(ctx, named):
        return _seen(found, input)
    wait_ms = ctx.intended_at_ms + FOUND_WITHIN_MS - ctx.now_ms
    if wait_ms > 0:
        raise RetryableError("too early to say that there is no such e-mail", retry_after_s=wait_ms / 1000)
    sender = input.from_email or ctx.settings.get("from_email")
    everything = await _search(ctx, {"limit": _MOST, **({"senders": [sender]} if sender else {})})
    if found := _ours(ctx, everything):
        return _seen(found, input)
    if len(everything) >= _MOST:
        raise OutcomeUnknown(
            "too many e-mails left since to see them all: look for the metadata hub_run in the vendor's activity, and set "
            "search_query of the connection to the words that find it there"
        )
    return None


send_email.lookup(sent_before)
send_template.lookup(sent_before)


async def _search(ctx: ActionContext, asked: Mapping[str, Json]) -> list[_Found]:
    day = datetime.fromtimestamp(ctx.intended_at_ms / 1000, UTC).date()
    until = datetime.fromtimestamp(ctx.now_ms / 1000, UTC).date() + timedelta(days=1)
    days = {"date_from": (day - timedelta(days=1)).isoformat(), "date_to": until.isoformat()}
    return read_all(_Found, await call(ctx, "/messages/search", {**asked, **days}))


def _ours(ctx: ActionContext, found: list[_Found]) -> _Found | None:
    """The one with our reference; one that was refused is as good as none, and asking again tells why."""
    return next((one for one in found if one.reference == ctx.reference and one.state != "rejected"), None)


def _seen(found: _Found, input: _Mail) -> SentEmail:
    return SentEmail(message_id=found.id, status=found.state or "sent", to=input.to)


# -- rehearsals --------------------------------------------------------------------------------------------------------


def pretend(input: _Mail, now_ms: int) -> SentEmail:
    """A sent e-mail whose id follows from recipient and content."""
    digest = hashlib.sha256(input.model_dump_json().encode()).hexdigest()
    return SentEmail(message_id=digest[:32], status="sent", to=input.to)


send_email.simulate(pretend)
send_template.simulate(pretend)


@send_email.describe
def _describe_email(input: SendEmail) -> str:
    return f"e-mail to {input.to}: {' '.join(input.subject.split())}"


@send_template.describe
def _describe_template(input: SendTemplate) -> str:
    return f"e-mail to {input.to} by the template {input.template}"
