"""A discount code of one's own."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Self

from pydantic import AwareDatetime, BaseModel, Field, model_validator

from hub import ActionContext, Chosen, Effect, Rejected, parse_duration_ms
from hub_shopify.actions.inputs import CustomerId, Duration, Input, MoneyText, begun_at, check_currency, digits
from hub_shopify.api.discounts import DISCOUNT_BY_CODE, DISCOUNT_CREATE, DiscountNode
from hub_shopify.client import MUTATION, OBJECT, call, gid, rfc3339
from hub_shopify.connector import shopify

# No letters that are mistaken for digits (I, L, O, U), for codes are read aloud and typed.
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_CODE_LENGTH = 10


class DiscountInput(Input):
    """What the code gives: either `percentage` or `amount`."""

    percentage: Decimal | None = Field(None, gt=0, le=100, description="Percent off the order: 15")
    amount: MoneyText | None = Field(None, description="An amount off the order, in the shop's currency: 5.00 EUR")
    prefix: str = Field("", pattern=r"^[A-Za-z0-9_-]{0,32}$", description="What the code begins with: COMEBACK-")
    title: str = Field("Tetik Hub", min_length=1, max_length=120, description="Its name in the shop's admin")
    expires_after: Duration | None = Field(None, description="How long it can be used: 7d. Without it: for ever")
    customer_id: CustomerId | None = Field(None, description="The only customer who may use it. Without it: anyone")
    segment_id: Annotated[str, Chosen("segments")] | None = Field(
        None, description="The segment whose members may use it, instead of a customer"
    )
    minimum_subtotal: MoneyText | None = Field(None, description="Only for orders of at least: 50.00 EUR")
    once_per_customer: bool = True
    usage_limit: int | None = Field(1, gt=0, description="How often it can be used by all together; null: no limit")

    @model_validator(mode="after")
    def _one_value(self) -> Self:
        if (self.percentage is None) == (self.amount is None):
            raise ValueError("give either percentage or amount")
        if self.customer_id and self.segment_id:
            raise ValueError("give either customer_id or segment_id")
        return self


class DiscountOutput(BaseModel):
    """The code, ready to be sent. `ends_at` is empty when it does not expire."""

    code: str
    discount_id: str
    ends_at: AwareDatetime | None = None


@shopify.action(
    "create_discount",
    title="Create a discount code",
    input=DiscountInput,
    output=DiscountOutput,
    effect=Effect.RECONCILABLE,
    scopes=["write_discounts"],
    cost=MUTATION + 2 * OBJECT,
)
async def create_discount(ctx: ActionContext, input: DiscountInput) -> DiscountOutput:
    """Create a discount code that belongs to this effect alone. Raises Rejected when the shop refuses it."""
    await check_currency(ctx, "the discount is", input.amount, input.minimum_subtotal)
    try:
        answer = await call(ctx, DISCOUNT_CREATE, {"discount": _discount(ctx, input)})
    except Rejected as refused:
        # A code is derived from its effect, so one that is taken is most likely our own, made by an earlier attempt.
        if refused.code == "TAKEN" and (own := await find_discount(ctx, input)):
            return own
        raise
    return _made(ctx, input, answer.discount_code_basic_create.code_discount_node)


@create_discount.lookup
async def find_discount(ctx: ActionContext, input: DiscountInput) -> DiscountOutput | None:
    """The code that an earlier attempt made; None when there is none, or it is somebody else's."""
    answer = await call(ctx, DISCOUNT_BY_CODE, {"code": discount_code(input.prefix, ctx.reference)})
    node = answer.code_discount_node_by_code
    if node is None or not (node.code_discount.title or "").endswith(_mark(ctx)):
        return None
    return _made(ctx, input, node)


@create_discount.simulate
def _pretend_discount(input: DiscountInput, now_ms: int) -> DiscountOutput:
    code = discount_code(input.prefix, "rehearsal")
    lasts = timedelta(milliseconds=parse_duration_ms(input.expires_after)) if input.expires_after else None
    ends_at = datetime.fromtimestamp(now_ms / 1000, UTC) + lasts if lasts else None
    return DiscountOutput(code=code, discount_id="gid://shopify/DiscountCodeNode/0", ends_at=ends_at)


@create_discount.describe
def _describe_discount(input: DiscountInput) -> str:
    value = f"{input.percentage} %" if input.percentage is not None else input.amount
    whom = "anyone"
    if input.customer_id or input.segment_id:
        whom = f"customer {input.customer_id}" if input.customer_id else f"segment {input.segment_id}"
    until = f"for {input.expires_after}" if input.expires_after else "without expiry"
    floor = f", from {input.minimum_subtotal}" if input.minimum_subtotal else ""
    return f"create a discount code {input.prefix}… of {value} for {whom}, {until}{floor}"


def discount_code(prefix: str, reference: str) -> str:
    """The code of an effect, in capitals: the same over all its attempts, another one for every other effect."""
    number = int.from_bytes(hashlib.sha256(reference.encode()).digest())
    letters = []
    for _ in range(_CODE_LENGTH):
        number, letter = divmod(number, len(_ALPHABET))
        letters.append(_ALPHABET[letter])
    return prefix.upper() + "".join(letters)


def _mark(ctx: ActionContext) -> str:
    """Names the effect at the end of the discount's title, so that a code can be told for our own."""
    return f"[{ctx.reference}]"


def _discount(ctx: ActionContext, input: DiscountInput) -> dict[str, Any]:  # the mutation's input, as JSON
    starts_at = begun_at(ctx)
    if input.percentage is not None:
        value: dict[str, Any] = {"percentage": float(input.percentage / 100)}
    else:
        value = {"discountAmount": {"amount": digits(input.amount), "appliesOnEachItem": False}}
    wanted: dict[str, Any] = {
        "title": f"{input.title} {_mark(ctx)}",
        "code": discount_code(input.prefix, ctx.reference),
        "startsAt": rfc3339(starts_at),
        "usageLimit": input.usage_limit,
        "appliesOncePerCustomer": input.once_per_customer,
        "context": _context(input),
        "customerGets": {"value": value, "items": {"all": True}},
    }
    if input.expires_after:
        wanted["endsAt"] = rfc3339(starts_at + timedelta(milliseconds=parse_duration_ms(input.expires_after)))
    if input.minimum_subtotal:
        wanted["minimumRequirement"] = {
            "subtotal": {"greaterThanOrEqualToSubtotal": digits(input.minimum_subtotal)},
        }
    return wanted


def _context(input: DiscountInput) -> dict[str, Any]:  # who may use it, as JSON
    if input.customer_id:
        return {"customers": {"add": [gid("Customer", input.customer_id)]}}
    if input.segment_id:
        return {"customerSegments": {"add": [gid("Segment", input.segment_id)]}}
    return {"all": "ALL"}


def _made(ctx: ActionContext, input: DiscountInput, node: DiscountNode) -> DiscountOutput:
    ends_at = node.code_discount.ends_at
    return DiscountOutput(
        code=discount_code(input.prefix, ctx.reference),
        discount_id=node.id,
        ends_at=datetime.fromisoformat(ends_at).astimezone(UTC) if ends_at else None,
    )
