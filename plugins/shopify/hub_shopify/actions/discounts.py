"""What can be done in a shop: give somebody a discount code of their own, and tag a customer."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Self

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from hub import ActionContext, Effect, Money, NotFound, Rejected, parse_duration_ms
from hub_shopify.client import DISCOUNT_BY_CODE, DISCOUNT_CREATE, SHOP, TAGS_ADD, DiscountNode, call, gid, rfc3339
from hub_shopify.connector import shopify

# No letters that are mistaken for digits (I, L, O, U), for codes are read aloud and typed.
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_CODE_LENGTH = 10
# What an operation costs of the budget, in points: a mutation 10, a plain object 1.
# (shopify.dev "API rate limits", 2026)
_MUTATION, _OBJECT = 10, 1


class _Input(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)


def _money_text(value: Any) -> Any:  # the input of a validator may be anything
    """`50.00 EUR` as it is; the amount of an event (`{"amount_minor": 5000, "currency": "EUR"}`) written like that."""
    return str(Money.model_validate(value)) if isinstance(value, dict | Money) else value


def _above_nothing(text: str) -> str:
    if Money.parse(text).amount_minor <= 0:
        raise ValueError(f"{text} is no amount to give or ask for; write one above zero")
    return text


def _some_time(text: str) -> str:
    if parse_duration_ms(text) < 1000:
        raise ValueError(f"{text!r} is over at once; write a time such as 24h or 7d")
    return text


def _plain_tag(text: str) -> str:
    tag = text.strip()
    if not tag or "," in tag:
        raise ValueError(f"{text!r} is no tag: it may not be empty or hold a comma; list several tags one by one")
    return tag


MoneyText = Annotated[str, BeforeValidator(_money_text), AfterValidator(_above_nothing)]
Duration = Annotated[str, AfterValidator(_some_time)]
Tag = Annotated[str, AfterValidator(_plain_tag)]
CustomerId = Annotated[str, Field(pattern=r"^(gid://shopify/Customer/)?[0-9]+$")]


# -- a discount code ---------------------------------------------------------------------------------------------------


class DiscountInput(_Input):
    """What the code gives: either `percentage` or `amount`."""

    percentage: Decimal | None = Field(None, gt=0, le=100, description="Percent off the order: 15")
    amount: MoneyText | None = Field(None, description="An amount off the order, in the shop's currency: 5.00 EUR")
    prefix: str = Field("", pattern=r"^[A-Za-z0-9_-]{0,32}$", description="What the code begins with: COMEBACK-")
    title: str = Field("Tetik Hub", min_length=1, max_length=120, description="Its name in the shop's admin")
    expires_after: Duration | None = Field(None, description="How long it can be used: 7d. Without it: for ever")
    customer_id: CustomerId | None = Field(None, description="The only customer who may use it. Without it: anyone")
    minimum_subtotal: MoneyText | None = Field(None, description="Only for orders of at least: 50.00 EUR")
    once_per_customer: bool = True
    usage_limit: int | None = Field(1, gt=0, description="How often it can be used by all together; null: no limit")

    @model_validator(mode="after")
    def _one_value(self) -> Self:
        if (self.percentage is None) == (self.amount is None):
            raise ValueError("give either percentage or amount")
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
    cost=_MUTATION + 2 * _OBJECT,
)
async def create_discount(ctx: ActionContext, input: DiscountInput) -> DiscountOutput:
    """Create a discount code that belongs to this effect alone. Raises Rejected when the shop refuses it."""
    await _check_currency(ctx, input)
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
    whom = f"customer {input.customer_id}" if input.customer_id else "anyone"
    until = f"for {input.expires_after}" if input.expires_after else "without expiry"
    floor = f", from {input.minimum_subtotal}" if input.minimum_subtotal else ""
    return f"create a discount code {input.prefix}… of {value} for {whom}, {until}{floor}"


def discount_code(prefix: str, reference: str) -> str:
    """The code of an effect: the same over all its attempts, another one for every other effect."""
    number = int.from_bytes(hashlib.sha256(reference.encode()).digest())
    letters = []
    for _ in range(_CODE_LENGTH):
        number, letter = divmod(number, len(_ALPHABET))
        letters.append(_ALPHABET[letter])
    return prefix + "".join(letters)


def _mark(ctx: ActionContext) -> str:
    """Names the effect at the end of the discount's title, so that a code can be told for our own."""
    return f"[{ctx.reference}]"


def _discount(ctx: ActionContext, input: DiscountInput) -> dict[str, Any]:  # the mutation's input, as JSON
    starts_at = _starts_at(ctx)
    if input.percentage is not None:
        value: dict[str, Any] = {"percentage": float(input.percentage / 100)}
    else:
        value = {"discountAmount": {"amount": _digits(input.amount), "appliesOnEachItem": False}}
    wanted: dict[str, Any] = {
        "title": f"{input.title} {_mark(ctx)}",
        "code": discount_code(input.prefix, ctx.reference),
        "startsAt": rfc3339(starts_at),
        "usageLimit": input.usage_limit,
        "appliesOncePerCustomer": input.once_per_customer,
        "context": {"customers": {"add": [gid("Customer", input.customer_id)]}}
        if input.customer_id
        else {"all": "ALL"},
        "customerGets": {"value": value, "items": {"all": True}},
    }
    if input.expires_after:
        wanted["endsAt"] = rfc3339(starts_at + timedelta(milliseconds=parse_duration_ms(input.expires_after)))
    if input.minimum_subtotal:
        wanted["minimumRequirement"] = {
            "subtotal": {"greaterThanOrEqualToSubtotal": _digits(input.minimum_subtotal)},
        }
    return wanted


async def _check_currency(ctx: ActionContext, input: DiscountInput) -> None:
    """Refuse amounts in another currency than the shop's: Shopify would take the bare number for its own."""
    given = {Money.parse(text).currency for text in (input.amount, input.minimum_subtotal) if text}
    if not given:
        return
    currency = (await call(ctx, SHOP, {})).shop.currency_code
    if given != {currency}:
        raise Rejected(
            f"the shop sells in {currency}, the discount is given in {', '.join(sorted(given))}: "
            f"write the amounts in {currency}",
            connector="shopify",
            connection_id=ctx.connection_id,
        )


def _made(ctx: ActionContext, input: DiscountInput, node: DiscountNode) -> DiscountOutput:
    ends_at = node.code_discount.ends_at
    return DiscountOutput(
        code=discount_code(input.prefix, ctx.reference),
        discount_id=node.id,
        ends_at=datetime.fromisoformat(ends_at).astimezone(UTC) if ends_at else None,
    )


def _starts_at(ctx: ActionContext) -> datetime:
    """When the first attempt was made, to the second: a repeat asks for the very same discount."""
    return datetime.fromtimestamp((ctx.intended_at_ms or ctx.now_ms) // 1000, UTC)


def _digits(money: str | None) -> str:
    return str(Money.parse(money or "")).split()[0]


# -- tags --------------------------------------------------------------------------------------------------------------


class TagInput(_Input):
    customer_id: CustomerId = Field(description="The customer's id: {{ trigger.customer_id }}")
    tags: list[Tag] = Field(min_length=1, max_length=250)


class TagOutput(BaseModel):
    customer_id: str
    tags: list[str]


@shopify.action(
    "tag_customer",
    title="Tag a customer",
    input=TagInput,
    output=TagOutput,
    effect=Effect.IDEMPOTENT,
    cost=_MUTATION,
)
async def tag_customer(ctx: ActionContext, input: TagInput) -> TagOutput:
    """Add tags to those the customer has. Raises NotFound or Rejected when there is no such customer."""
    answer = await call(ctx, TAGS_ADD, {"id": gid("Customer", input.customer_id), "tags": input.tags})
    if answer.tags_add.node is None:
        raise NotFound(
            f"the shop has no customer {input.customer_id}", connector="shopify", connection_id=ctx.connection_id
        )
    return TagOutput(customer_id=input.customer_id, tags=input.tags)


@tag_customer.simulate
def _pretend_tags(input: TagInput, now_ms: int) -> TagOutput:
    return TagOutput(customer_id=input.customer_id, tags=input.tags)


@tag_customer.describe
def _describe_tags(input: TagInput) -> str:
    return f"tag customer {input.customer_id} with {', '.join(input.tags)}"
