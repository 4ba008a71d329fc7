"""What an address is subscribed to."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from urllib.parse import quote

from pydantic import AwareDatetime, BaseModel, Field

from hub import ActionContext, Chosen, ConsentSignal, ConsentState, Effect, SkipStep
from hub.events import Json
from hub_hubspot.actions.fields import Email, Input, number
from hub_hubspot.client import Answer, read
from hub_hubspot.connector import PREFERENCES, hubspot
from hub_hubspot.paths import path

LegalBasis = Literal[
    "LEGITIMATE_INTEREST_PQL",
    "LEGITIMATE_INTEREST_CLIENT",
    "LEGITIMATE_INTEREST_OTHER",
    "PERFORMANCE_OF_CONTRACT",
    "CONSENT_WITH_NOTICE",
    "NON_GDPR",
    "PROCESS_AND_STORE",
]


class SubscriptionInput(Input):
    """A subscription type of an address. Accounts that keep to data privacy rules want a legal basis."""

    email: Email
    subscription: Annotated[str, Chosen("subscription_types")]
    status: Literal["SUBSCRIBED", "UNSUBSCRIBED", "NOT_SPECIFIED"]
    legal_basis: LegalBasis | None = None
    legal_basis_explanation: str | None = None
    consented_at: AwareDatetime | None = Field(
        None, description="When they said so. Needed to subscribe somebody again who had left"
    )


class SubscriptionOutput(BaseModel):
    """`changed` is False where it was so already."""

    email: str
    subscription: str
    status: str
    changed: bool


class _Status(Answer):
    status: str
    timestamp: datetime | None = None
    subscription_id: str | None = None
    """Of a type; an answer on all e-mail has none."""
    set_status_success_reason: str | None = None


class _StatusAnswer(Answer):
    results: list[_Status]


@hubspot.action(
    "set_subscription",
    title="Set a subscription",
    input=SubscriptionInput,
    output=SubscriptionOutput,
    effect=Effect.IDEMPOTENT,
    scopes=[PREFERENCES],
    cost=3,
)
async def set_subscription(ctx: ActionContext, input: SubscriptionInput) -> SubscriptionOutput:
    """Subscribe an address to a type of e-mail, or unsubscribe it. Skipped for who left, unless they agreed again since."""
    if input.status != "UNSUBSCRIBED":
        await _respect(ctx, input)
    asked: dict[str, Json] = {
        "subscriptionId": number("subscription", input.subscription),
        "statusState": input.status,
        "channel": "EMAIL",
    }
    if input.legal_basis:
        asked["legalBasis"] = input.legal_basis
    if input.legal_basis_explanation:
        asked["legalBasisExplanation"] = input.legal_basis_explanation
    found = read(_StatusAnswer, await ctx.http.request("POST", _address(ctx, input), json=asked)).results
    status = found[0].status if found else input.status
    changed = not found or found[0].set_status_success_reason != "NO_STATUS_CHANGE"
    return SubscriptionOutput(email=input.email, subscription=input.subscription, status=status, changed=changed)


async def _respect(ctx: ActionContext, input: SubscriptionInput) -> None:
    """Skip what would bring somebody back who left: HubSpot itself does as it is told, also with `NOT_SPECIFIED`.

    (developers.hubspot.com "Subscriptions API v4": it re-subscribes, unlike v3; "Retrieve a contact's unsubscribed status":
    empty for whoever has not left everything; read 2026-11-29)
    """
    everything = await _left(ctx, input, "/unsubscribe-all")
    of_type = [one for one in await _left(ctx, input) if one.subscription_id == input.subscription]
    for one in (*everything, *of_type):
        if input.consented_at is None:
            why = "they had unsubscribed at HubSpot; to subscribe them again say by `consented_at` when they agreed"
        elif one.timestamp and input.consented_at <= one.timestamp:
            why = "HubSpot knows something newer: they unsubscribed after they had agreed"
        else:
            continue
        # Who left one type of e-mail may want the others: only leaving everything is told.
        gone = [
            ConsentSignal("email", input.email, ConsentState.REVOKED, "unsubscribe", at=w.timestamp) for w in everything
        ]
        raise SkipStep("no_consent", why, signals=gone[:1])


async def _left(ctx: ActionContext, input: SubscriptionInput, what: str = "") -> list[_Status]:
    answer = await ctx.http.request("GET", _address(ctx, input) + what, params={"channel": "EMAIL"})
    return [one for one in read(_StatusAnswer, answer).results if one.status == "UNSUBSCRIBED"]


def _address(ctx: ActionContext, input: SubscriptionInput) -> str:
    return path(ctx.settings, "preferences", f"/statuses/{quote(input.email, safe='')}")


@set_subscription.simulate
def _pretend(input: SubscriptionInput, now_ms: int) -> SubscriptionOutput:
    return SubscriptionOutput(email=input.email, subscription=input.subscription, status=input.status, changed=True)


@set_subscription.describe
def _describe(input: SubscriptionInput) -> str:
    return f"set the subscription {input.subscription} of {input.email} to {input.status}"
