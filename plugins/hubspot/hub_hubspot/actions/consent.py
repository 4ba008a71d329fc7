"""What an address is subscribed to."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import quote

from pydantic import BaseModel

from hub import ActionContext, Chosen, Effect
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


class SubscriptionOutput(BaseModel):
    """`changed` is False where it was so already."""

    email: str
    subscription: str
    status: str
    changed: bool


class _Status(Answer):
    status: str
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
)
async def set_subscription(ctx: ActionContext, input: SubscriptionInput) -> SubscriptionOutput:
    """Subscribe an address to a type of e-mail, or unsubscribe it."""
    asked: dict[str, Json] = {
        "subscriptionId": number("subscription", input.subscription),
        "statusState": input.status,
        "channel": "EMAIL",
    }
    if input.legal_basis:
        asked["legalBasis"] = input.legal_basis
    if input.legal_basis_explanation:
        asked["legalBasisExplanation"] = input.legal_basis_explanation
    address = path(ctx.settings, "preferences", f"/statuses/{quote(input.email, safe='')}")
    found = read(_StatusAnswer, await ctx.http.request("POST", address, json=asked)).results
    status = found[0].status if found else input.status
    changed = not found or found[0].set_status_success_reason != "NO_STATUS_CHANGE"
    return SubscriptionOutput(email=input.email, subscription=input.subscription, status=status, changed=changed)


@set_subscription.simulate
def _pretend(input: SubscriptionInput, now_ms: int) -> SubscriptionOutput:
    return SubscriptionOutput(email=input.email, subscription=input.subscription, status=input.status, changed=True)


@set_subscription.describe
def _describe(input: SubscriptionInput) -> str:
    return f"set the subscription {input.subscription} of {input.email} to {input.status}"
