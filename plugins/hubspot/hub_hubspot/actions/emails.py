"""One e-mail to one person, written in HubSpot."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from hub import ActionContext, Chosen, ConsentSignal, ConsentState, Effect, Message, RateLimited, Rejected, SkipStep
from hub.events import Json
from hub_hubspot.actions.fields import KEY_WINDOW_S, Email, Input, Properties, number, texts
from hub_hubspot.client import Answer, read
from hub_hubspot.connector import MARKETING_EMAIL, hubspot
from hub_hubspot.paths import path


class EmailInput(Input):
    """An e-mail of HubSpot to an address. A marketing one makes the person a marketing contact, which HubSpot bills."""

    to: Email
    email_id: Annotated[str, Chosen("emails")]
    kind: Literal["marketing", "transactional"] = "marketing"
    from_address: str | None = Field(None, description="Another sender than the e-mail's own: Team <team@example.test>")
    reply_to: Email | None = None
    contact_properties: Properties = Field(default_factory=dict)
    custom_properties: Properties = Field(default_factory=dict)


class EmailOutput(BaseModel):
    """What HubSpot said at once; most are `PENDING`. `result` is there when it is known already."""

    status_id: str
    status: str
    result: str | None = None


class _Status(Answer):
    status_id: str
    status: str
    send_result: str | None = None


# Why nothing was sent to somebody, and what the consent ledger learns of it.
# (Single-send API v4, EmailSendStatusView, read 2026-11-22)
_UNSUBSCRIBED = {
    "PREVIOUSLY_UNSUBSCRIBED_MESSAGE",
    "PREVIOUSLY_UNSUBSCRIBED_PORTAL",
    "PREVIOUSLY_UNSUBSCRIBED_BRAND",
    "PREVIOUSLY_UNSUBSCRIBED_BUSINESS_UNIT",
    "ADDRESS_OPTED_OUT",
    "GDPR_DOI_ENABLED",
    "NON_MARKETABLE_CONTACT",
}
# Of these HubSpot knows that the person left; the others only that they have not agreed, or not to this.
_LEFT = {"PREVIOUSLY_UNSUBSCRIBED_PORTAL", "ADDRESS_OPTED_OUT"}
_BLOCKED = {"PREVIOUSLY_BOUNCED": "bounce", "PREVIOUS_SPAM": "complaint"}
_UNDELIVERABLE = {
    "BLOCKED_ADDRESS",
    "BLOCKED_DOMAIN",
    "INVALID_TO_ADDRESS",
    "GRAYMAIL_SUPPRESSED",
    "RECIPIENT_FATIGUE_SUPPRESSED",
    "QUARANTINED_ADDRESS",
    "UNDELIVERABLE",
    "ADDRESS_LIST_BOMBED",
}
_SENT = {"SENT", "QUEUED", "IDEMPOTENT_IGNORE", "IDEMPOTENT_FAIL", None}
_THROTTLED_S = 60.0


@hubspot.action(
    "send_email",
    title="Send an e-mail",
    input=EmailInput,
    output=EmailOutput,
    effect=Effect.KEYED,
    key_window_s=KEY_WINDOW_S,
    message=Message(channel="email", to=lambda email: email.to),
    provides="email.send",
    # Transactional ones want `transactional-email` instead.
    scopes=[MARKETING_EMAIL],
)
async def send_email(ctx: ActionContext, input: EmailInput) -> EmailOutput:
    """Send one e-mail; HubSpot sends at most one for each `sendId`, which is the step's own key."""
    message: dict[str, Json] = {"to": input.to, "sendId": ctx.idempotency_key}
    if input.from_address:
        message["from"] = input.from_address
    if input.reply_to:
        message["replyTo"] = [input.reply_to]
    asked: dict[str, Json] = {"emailId": number("email_id", input.email_id), "message": message}
    if input.contact_properties:
        asked["contactProperties"] = texts(input.contact_properties)
    if input.custom_properties:
        asked["customProperties"] = texts(input.custom_properties)
    answer = await ctx.http.request("POST", path(ctx.settings, f"{input.kind}_send"), json=asked)
    said = read(_Status, answer)
    _check(said.send_result, input.to)
    return EmailOutput(status_id=said.status_id, status=said.status, result=said.send_result)


def _check(result: str | None, to: str) -> None:
    """Raise what a result means that is no sending."""
    if result in _SENT:
        return
    if result in _UNSUBSCRIBED:
        left = result in _LEFT
        signals = [ConsentSignal("email", to, ConsentState.REVOKED, "unsubscribe")] if left else []
        raise SkipStep("no_consent", f"HubSpot may not send to this person ({result})", signals=signals)
    if result in _BLOCKED:
        signal = ConsentSignal("email", to, ConsentState.BLOCKED, _BLOCKED[result])
        raise SkipStep("no_consent", f"HubSpot does not send to this address any more ({result})", signals=[signal])
    if result == "THROTTLED":
        raise RateLimited(retry_after_s=_THROTTLED_S, code=result)
    if result in _UNDELIVERABLE:
        raise Rejected(f"HubSpot does not send to this address ({result})", code=result)
    raise Rejected(
        f"HubSpot cannot send this e-mail ({result}): correct the e-mail or the account at HubSpot", code=result
    )


@send_email.simulate
def _pretend(input: EmailInput, now_ms: int) -> EmailOutput:
    return EmailOutput(status_id="status-1", status="PENDING")


@send_email.describe
def _describe(input: EmailInput) -> str:
    return f"send the {input.kind} e-mail {input.email_id} to {input.to}"
