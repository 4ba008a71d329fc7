"""What a customer agreed to, told to the shop.

Somebody who left is never brought back by what was said before: what the shop knows that is newer stands, and comes back
into the hub's ledger.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, Field

from hub import ActionContext, Chosen, ConsentSignal, ConsentState, Effect, SkipStep
from hub_shopify.actions.inputs import CustomerId, Input, begun_at, not_found
from hub_shopify.api.customers import CUSTOMER, EMAIL_CONSENT, SMS_CONSENT, ConsentingEmail, ConsentingPhone
from hub_shopify.client import MUTATION, OBJECT, call, gid, rfc3339
from hub_shopify.connector import shopify

State = Literal["subscribed", "unsubscribed", "pending"]
_KNOWN = {"SUBSCRIBED": ConsentState.GRANTED, "UNSUBSCRIBED": ConsentState.REVOKED}


class ConsentInput(Input):
    customer_id: CustomerId = Field(description="The customer's id: {{ trigger.customer_id }}")
    state: State = Field(description="`pending` waits for them to confirm")
    opt_in: Literal["single", "confirmed", "unknown"] = Field(
        "single", description="How they opted in; confirmed: they answered a message"
    )
    consented_at: AwareDatetime | None = Field(
        None, description="When they said so. Needed to subscribe somebody again who had left"
    )
    location_id: Annotated[str, Chosen("locations")] | None = Field(None, description="Where they said so, in a store")


class ConsentOutput(BaseModel):
    customer_id: str
    state: str


@shopify.action(
    "set_email_consent",
    title="Set a customer's consent to e-mail",
    input=ConsentInput,
    output=ConsentOutput,
    effect=Effect.IDEMPOTENT,
    scopes=["write_customers"],
    cost=MUTATION + 5 * OBJECT,
)
async def set_email_consent(ctx: ActionContext, input: ConsentInput) -> ConsentOutput:
    """Say whether a customer agrees to marketing by e-mail. Skipped without an address, or where the shop knows better."""
    customer = (await call(ctx, CUSTOMER, {"id": gid("Customer", input.customer_id)})).customer
    if customer is None:
        raise not_found(ctx, f"customer {input.customer_id}")
    if customer.default_email_address is None:
        raise SkipStep("the customer has no e-mail address")
    _respect(customer.default_email_address, "email", customer.default_email_address.email_address, input)
    variables = {"input": {"customerId": customer.id, "emailMarketingConsent": _consent(ctx, input)}}
    await call(ctx, EMAIL_CONSENT, variables)
    return ConsentOutput(customer_id=input.customer_id, state=input.state)


@shopify.action(
    "set_sms_consent",
    title="Set a customer's consent to SMS",
    input=ConsentInput,
    output=ConsentOutput,
    effect=Effect.IDEMPOTENT,
    scopes=["write_customers"],
    cost=MUTATION + 5 * OBJECT,
)
async def set_sms_consent(ctx: ActionContext, input: ConsentInput) -> ConsentOutput:
    """Say whether a customer agrees to marketing by SMS. Skipped without a number, or where the shop knows better."""
    customer = (await call(ctx, CUSTOMER, {"id": gid("Customer", input.customer_id)})).customer
    if customer is None:
        raise not_found(ctx, f"customer {input.customer_id}")
    if customer.default_phone_number is None:
        raise SkipStep("the customer has no phone number")
    _respect(customer.default_phone_number, "sms", customer.default_phone_number.phone_number, input)
    variables = {"input": {"customerId": customer.id, "smsMarketingConsent": _consent(ctx, input)}}
    await call(ctx, SMS_CONSENT, variables)
    return ConsentOutput(customer_id=input.customer_id, state=input.state)


def _respect(known: ConsentingEmail | ConsentingPhone, channel: str, address: str, input: ConsentInput) -> None:
    """Skip what would overrule something newer: a withdrawal stands until they are known to have said otherwise later.

    A yes is not turned into a question either.
    """
    if known.marketing_state == input.state.upper():
        return
    signals = []
    if meaning := _KNOWN.get(known.marketing_state):
        signals = [ConsentSignal(channel, address, meaning, "shopify_customer", at=known.marketing_updated_at)]
    if input.state == "pending" and known.marketing_state == "SUBSCRIBED":
        raise SkipStep("they agreed already, and need not confirm it", signals=signals)
    if input.state != "unsubscribed" and known.marketing_state == "UNSUBSCRIBED" and input.consented_at is None:
        raise SkipStep(
            "they had unsubscribed in the shop; to subscribe them again say by `consented_at` when they agreed",
            signals=signals,
        )
    if input.consented_at and known.marketing_updated_at and input.consented_at <= known.marketing_updated_at:
        raise SkipStep("the shop knows something newer", signals=signals)


def _consent(ctx: ActionContext, input: ConsentInput) -> dict[str, Any]:  # as JSON; always whole
    at: datetime = input.consented_at or begun_at(ctx)
    consent: dict[str, Any] = {
        "marketingState": input.state.upper(),
        "marketingOptInLevel": {"single": "SINGLE_OPT_IN", "confirmed": "CONFIRMED_OPT_IN", "unknown": "UNKNOWN"}[
            input.opt_in
        ],
        "consentUpdatedAt": rfc3339(at),
    }
    if input.location_id:
        consent["sourceLocationId"] = gid("Location", input.location_id)
    return consent


@set_email_consent.simulate
@set_sms_consent.simulate
def _pretend_consent(input: ConsentInput, now_ms: int) -> ConsentOutput:
    return ConsentOutput(customer_id=input.customer_id, state=input.state)


@set_email_consent.describe
def _describe_email(input: ConsentInput) -> str:
    return f"set customer {input.customer_id} to {input.state} for marketing by e-mail"


@set_sms_consent.describe
def _describe_sms(input: ConsentInput) -> str:
    return f"set customer {input.customer_id} to {input.state} for marketing by SMS"
