"""Money that goes back: refunds and store credit. Both happen at most once, and nobody is told of them by the shop."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Self

from pydantic import BaseModel, Field, model_validator

from hub import ActionContext, Effect, Money, parse_duration_ms
from hub_shopify.actions.inputs import CustomerId, Duration, Input, MoneyText, OrderId, begun_at, not_found, rejected
from hub_shopify.api.money import CREDIT_GIVE, REFUND_CREATE, REFUNDABLE, RefundableOrder, SuggestedRefund
from hub_shopify.client import MUTATION, OBJECT, call, gid, rest_id, rfc3339
from hub_shopify.connector import shopify

# -- refunds -----------------------------------------------------------------------------------------------------------


class RefundInput(Input):
    order_id: OrderId = Field(description="The order's id: {{ trigger.order_id }}")
    amount: MoneyText | None = Field(None, description="In the shop's currency: 5.00 EUR. Without it: all that is left")
    at_most: MoneyText = Field(description="More than this is refused, whatever the order was worth: 100.00 EUR")
    note: str | None = Field(None, max_length=1000)

    @model_validator(mode="after")
    def _within(self) -> Self:
        if self.amount:
            amount, most = Money.parse(self.amount), Money.parse(self.at_most)
            if amount.currency != most.currency or amount.amount_minor > most.amount_minor:
                raise ValueError(f"amount is more than at_most allows, or in another currency: {amount}, {most}")
        return self


class RefundOutput(BaseModel):
    refund_id: str
    order_id: str
    amount: Money


@shopify.action(
    "refund_order",
    title="Refund an order",
    input=RefundInput,
    output=RefundOutput,
    effect=Effect.AT_MOST_ONCE,
    scopes=["write_orders"],
    cost=MUTATION + 10 * OBJECT,
)
async def refund_order(ctx: ActionContext, input: RefundInput) -> RefundOutput:
    """Pay money of an order back the way it came. Raises Rejected when it would be more than allowed or than is left.

    Goods are neither taken back nor restocked.
    """
    order = (await call(ctx, REFUNDABLE, {"id": gid("Order", input.order_id)})).order
    if order is None:
        raise not_found(ctx, f"order {input.order_id}")
    suggested, amount = _refundable(ctx, order, input)
    wanted: dict[str, Any] = {
        "orderId": order.id,
        "notify": False,
        "transactions": _transactions(ctx, order, suggested, amount),
    }
    if input.note:
        wanted["note"] = input.note
    made = (await call(ctx, REFUND_CREATE, {"input": wanted, "key": ctx.idempotency_key})).refund_create.refund
    return RefundOutput(refund_id=rest_id(made.id), order_id=input.order_id, amount=made.total_refunded_set.money)


def _refundable(ctx: ActionContext, order: RefundableOrder, input: RefundInput) -> tuple[SuggestedRefund, Money]:
    """How it may go back, and how much of it does."""
    if order.presentment_currency_code != order.currency_code:
        raise rejected(
            ctx,
            f"the order was paid in {order.presentment_currency_code} and the shop counts in {order.currency_code}: "
            "refund it in the shop's admin",
        )
    suggested = order.suggested_refund
    if suggested is None or suggested.maximum_refundable_set.money.amount_minor <= 0:
        raise rejected(ctx, "nothing of the order is left to be refunded")
    left, most = suggested.maximum_refundable_set.money, Money.parse(input.at_most)
    amount = Money.parse(input.amount) if input.amount else left
    if {amount.currency, most.currency} != {left.currency}:
        raise rejected(ctx, f"the order is in {left.currency}: write the amounts in {left.currency}")
    if amount.amount_minor > left.amount_minor:
        raise rejected(ctx, f"{left} of the order is left to be refunded, not {amount}")
    if amount.amount_minor > most.amount_minor:
        raise rejected(ctx, f"{amount} would be refunded, and at_most is {most}")
    return suggested, amount


def _transactions(
    ctx: ActionContext, order: RefundableOrder, suggested: SuggestedRefund, amount: Money
) -> list[dict[str, Any]]:  # as JSON
    """The payments that the amount goes back to, one after the other, none beyond what it was."""
    left, parts = amount.amount_minor, []
    for payment in suggested.suggested_transactions:
        part = min(left, payment.amount_set.money.amount_minor)
        if part <= 0 or payment.parent_transaction is None:
            continue
        left -= part
        money = Money(amount_minor=part, currency=amount.currency)
        parts.append(
            {
                "orderId": order.id,
                "parentId": payment.parent_transaction.id,
                "amount": str(money).split()[0],
                "gateway": payment.gateway or "",
                "kind": "REFUND",
            }
        )
    if left:
        raise rejected(ctx, "the order's payments cannot take so much back: refund it in the shop's admin")
    return parts


@refund_order.simulate
def _pretend_refund(input: RefundInput, now_ms: int) -> RefundOutput:
    return RefundOutput(refund_id="0", order_id=input.order_id, amount=Money.parse(input.amount or input.at_most))


@refund_order.describe
def _describe_refund(input: RefundInput) -> str:
    return f"refund {input.amount or f'what is left, at most {input.at_most},'} of order {input.order_id}"


# -- store credit ------------------------------------------------------------------------------------------------------


class CreditInput(Input):
    customer_id: CustomerId = Field(description="The customer's id: {{ trigger.customer_id }}")
    amount: MoneyText = Field(description="How much: 5.00 EUR")
    expires_after: Duration | None = Field(None, description="How long it can be spent: 90d. Without it: for ever")


class CreditOutput(BaseModel):
    transaction_id: str
    customer_id: str
    balance: Money


@shopify.action(
    "give_store_credit",
    title="Give store credit",
    input=CreditInput,
    output=CreditOutput,
    effect=Effect.AT_MOST_ONCE,
    scopes=["write_store_credit_account_transactions"],
    cost=MUTATION + 2 * OBJECT,
)
async def give_store_credit(ctx: ActionContext, input: CreditInput) -> CreditOutput:
    """Add to the credit that a customer may spend in the shop. Raises Rejected."""
    amount = Money.parse(input.amount)
    credit: dict[str, Any] = {
        "creditAmount": {"amount": str(amount).split()[0], "currencyCode": amount.currency},
        "notify": False,
    }
    if input.expires_after:
        credit["expiresAt"] = rfc3339(begun_at(ctx) + timedelta(milliseconds=parse_duration_ms(input.expires_after)))
    answer = await call(ctx, CREDIT_GIVE, {"id": gid("Customer", input.customer_id), "credit": credit})
    made = answer.store_credit_account_credit.store_credit_account_transaction
    return CreditOutput(
        transaction_id=rest_id(made.id), customer_id=input.customer_id, balance=made.balance_after_transaction.money
    )


@give_store_credit.simulate
def _pretend_credit(input: CreditInput, now_ms: int) -> CreditOutput:
    return CreditOutput(transaction_id="0", customer_id=input.customer_id, balance=Money.parse(input.amount))


@give_store_credit.describe
def _describe_credit(input: CreditInput) -> str:
    until = f"for {input.expires_after}" if input.expires_after else "without expiry"
    return f"give customer {input.customer_id} a store credit of {input.amount}, {until}"
