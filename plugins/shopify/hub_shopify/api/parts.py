"""Parts that several answers share: ids, amounts, addresses, pages."""

from __future__ import annotations

from typing import Generic, TypeVar

from pydantic import Field

from hub import Money
from hub_shopify.client import Answer

MONEY_FIELDS = "{ shopMoney { amount currencyCode } }"
PERSON_FIELDS = """id firstName lastName
    defaultEmailAddress { emailAddress } defaultPhoneNumber { phoneNumber }"""


LINE_FIELDS = f"""lineItems(first: 10) {{
        nodes {{ title quantity sku originalUnitPriceSet {MONEY_FIELDS} product {{ id }} variant {{ id }} }}
      }}"""


class Node(Answer):
    """Anything with a global id (`gid://shopify/Customer/1`)."""

    id: str


class PageInfo(Answer):
    has_next_page: bool
    end_cursor: str | None


N = TypeVar("N", bound=Answer)


class Listed(Answer, Generic[N]):
    """A page of a list, and whether there is another one."""

    nodes: list[N]
    page_info: PageInfo


class Amount(Answer):
    amount: str
    currency_code: str

    @property
    def money(self) -> Money:
        """The amount in minor units; Shopify writes decimals (`60.0`), also where the currency has none."""
        return Money.of(self.amount, self.currency_code)


class ShopMoney(Answer):
    """An amount in the shop's own currency."""

    shop_money: Amount

    @property
    def money(self) -> Money:
        return self.shop_money.money


class Email(Answer):
    email_address: str


class Phone(Answer):
    phone_number: str


class Person(Answer):
    """A customer as far as they are needed to know whose something is; protected fields may be empty."""

    id: str
    first_name: str | None = None
    last_name: str | None = None
    default_email_address: Email | None = None
    default_phone_number: Phone | None = None


class Address(Answer):
    first_name: str | None = None
    last_name: str | None = None
    phone: str | None = None
    country: str | None = Field(None, alias="countryCodeV2")


class LineNode(Answer):
    title: str | None
    quantity: int
    sku: str | None
    original_unit_price_set: ShopMoney
    product: Node | None
    variant: Node | None


class LineNodes(Answer):
    nodes: list[LineNode]
