"""What the inputs of actions are made of: amounts, durations, tags, ids."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from hub import ActionContext, Money, NotFound, Rejected, e164, parse_duration_ms
from hub_shopify.api.shop import SHOP
from hub_shopify.client import call


class Input(BaseModel):
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


def _e164(text: str) -> str:
    number = e164(text)
    if number is None:
        raise ValueError(f"{text!r} is no phone number; write it with the country's code: +14155550100")
    return number


MoneyText = Annotated[str, BeforeValidator(_money_text), AfterValidator(_above_nothing)]
Duration = Annotated[str, AfterValidator(_some_time)]
PhoneText = Annotated[str, AfterValidator(_e164)]
Tag = Annotated[str, AfterValidator(_plain_tag)]
CustomerId = Annotated[str, Field(pattern=r"^(gid://shopify/Customer/)?[0-9]+$")]
OrderId = Annotated[str, Field(pattern=r"^(gid://shopify/Order/)?[0-9]+$")]
ProductId = Annotated[str, Field(pattern=r"^(gid://shopify/Product/)?[0-9]+$")]
DraftId = Annotated[str, Field(pattern=r"^(gid://shopify/DraftOrder/)?[0-9]+$")]


def digits(money: str | None) -> str:
    """The amount alone, as Shopify takes it: `50.00`."""
    return str(Money.parse(money or "")).split()[0]


async def check_currency(ctx: ActionContext, what: str, *amounts: str | None) -> None:
    """Raise Rejected for amounts in another currency than the shop's, whose bare numbers Shopify might take for its own."""
    given = {Money.parse(text).currency for text in amounts if text}
    if not given:
        return
    currency = (await call(ctx, SHOP, {})).shop.currency_code
    if others := ", ".join(sorted(given - {currency})):
        raise rejected(ctx, f"the shop sells in {currency}, {what} given in {others}: write the amounts in {currency}")


def begun_at(ctx: ActionContext) -> datetime:
    """When the first attempt was made, to the second: a repeat asks for the very same thing."""
    return datetime.fromtimestamp((ctx.intended_at_ms or ctx.now_ms) // 1000, UTC)


def rejected(ctx: ActionContext, message: str, code: str | None = None) -> Rejected:
    """An input that the shop cannot take, found out before it was asked to."""
    return Rejected(message, connector="shopify", connection_id=ctx.connection_id, code=code)


def not_found(ctx: ActionContext, what: str) -> NotFound:
    """Something that the input names and the shop does not have."""
    return NotFound(f"the shop has no {what}", connector="shopify", connection_id=ctx.connection_id)
