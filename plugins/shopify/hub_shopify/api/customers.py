"""Customers: found by what they are known by, paged for polls and histories, changed, tagged, and their consent."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from hub_shopify.api.parts import PERSON_FIELDS, Amount, Listed, Node, Person
from hub_shopify.client import Answer, Operation

CUSTOMERS_A_PAGE = 50
_CONSENT = "marketingState marketingUpdatedAt"
_CUSTOMER_FIELDS = f"""id firstName lastName tags createdAt updatedAt
    defaultEmailAddress {{ emailAddress {_CONSENT} }} defaultPhoneNumber {{ phoneNumber {_CONSENT} }}
    defaultAddress {{ countryCodeV2 }}"""


class ConsentingEmail(Answer):
    email_address: str
    marketing_state: str
    marketing_updated_at: datetime | None


class ConsentingPhone(Answer):
    phone_number: str
    marketing_state: str
    marketing_updated_at: datetime | None


class Country(Answer):
    country: str | None = Field(None, alias="countryCodeV2")


class CustomerNode(Answer):
    id: str
    first_name: str | None
    last_name: str | None
    tags: list[str]
    created_at: datetime
    updated_at: datetime
    default_email_address: ConsentingEmail | None
    default_phone_number: ConsentingPhone | None
    default_address: Country | None


class CustomerPageAnswer(Answer):
    customers: Listed[CustomerNode]


class CustomerAnswer(Answer):
    customer: CustomerNode | None


class Spending(CustomerNode):
    number_of_orders: int
    amount_spent: Amount


class CustomerByAnswer(Answer):
    customer_by_identifier: Spending | None


class PeopleAnswer(Answer):
    nodes: list[Person | None]


class CustomerSet(Answer):
    customer: Node | None


class CustomerSetAnswer(Answer):
    customer_set: CustomerSet


class Tagged(Answer):
    node: Node | None


class TagsAddAnswer(Answer):
    tags_add: Tagged


class TagsRemoveAnswer(Answer):
    tags_remove: Tagged


class Consented(Answer):
    customer: Node | None


class EmailConsentAnswer(Answer):
    consented: Consented = Field(alias="customerEmailMarketingConsentUpdate")


class SmsConsentAnswer(Answer):
    consented: Consented = Field(alias="customerSmsMarketingConsentUpdate")


CUSTOMER_PAGE = Operation(
    f"""query CustomerPage($query: String!, $first: Int!, $after: String, $sort: CustomerSortKeys!) {{
  customers(first: $first, after: $after, query: $query, sortKey: $sort) {{
    nodes {{ {_CUSTOMER_FIELDS} }}
    pageInfo {{ hasNextPage endCursor }}
  }}
}}""",
    CustomerPageAnswer,
)

CUSTOMER = Operation(f"query Customer($id: ID!) {{ customer(id: $id) {{ {_CUSTOMER_FIELDS} }} }}", CustomerAnswer)

CUSTOMER_BY = Operation(
    f"""query CustomerBy($identifier: CustomerIdentifierInput!) {{
  customerByIdentifier(identifier: $identifier) {{
    {_CUSTOMER_FIELDS}
    numberOfOrders amountSpent {{ amount currencyCode }}
  }}
}}""",
    CustomerByAnswer,
)

PEOPLE = Operation(
    f"query People($ids: [ID!]!) {{ nodes(ids: $ids) {{ ... on Customer {{ {PERSON_FIELDS} }} }} }}", PeopleAnswer
)

CUSTOMER_SET = Operation(
    """mutation CustomerSet($identifier: CustomerSetIdentifiers!, $input: CustomerSetInput!) {
  customerSet(identifier: $identifier, input: $input) { customer { id } userErrors { field message code } }
}""",
    CustomerSetAnswer,
)

TAGS_ADD = Operation(
    """mutation TagsAdd($id: ID!, $tags: [String!]!) {
  tagsAdd(id: $id, tags: $tags) { node { id } userErrors { field message } }
}""",
    TagsAddAnswer,
)

TAGS_REMOVE = Operation(
    """mutation TagsRemove($id: ID!, $tags: [String!]!) {
  tagsRemove(id: $id, tags: $tags) { node { id } userErrors { field message } }
}""",
    TagsRemoveAnswer,
)

EMAIL_CONSENT = Operation(
    """mutation EmailConsent($input: CustomerEmailMarketingConsentUpdateInput!) {
  customerEmailMarketingConsentUpdate(input: $input) { customer { id } userErrors { field message code } }
}""",
    EmailConsentAnswer,
)

SMS_CONSENT = Operation(
    """mutation SmsConsent($input: CustomerSmsMarketingConsentUpdateInput!) {
  customerSmsMarketingConsentUpdate(input: $input) { customer { id } userErrors { field message code } }
}""",
    SmsConsentAnswer,
)
