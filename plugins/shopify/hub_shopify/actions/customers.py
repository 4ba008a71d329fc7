"""Customers: made or changed, tagged and untagged."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, Field, model_validator

from hub import ActionContext, Effect, OutcomeUnknown
from hub_shopify.actions.inputs import CustomerId, Input, PhoneText, Tag, not_found
from hub_shopify.api.customers import CUSTOMER_SET, TAGS_ADD, TAGS_REMOVE
from hub_shopify.client import MUTATION, OBJECT, call, gid, rest_id
from hub_shopify.connector import shopify

# -- made or changed ---------------------------------------------------------------------------------------------------


class CustomerInput(Input):
    """Whom it is about: `customer_id`, else the e-mail address, else the phone number. What is left out stays as it is."""

    customer_id: CustomerId | None = None
    email: str | None = Field(None, pattern=r"^\S+@\S+$")
    phone: PhoneText | None = Field(None, description="With the country's code: +14155550100")
    first_name: str | None = Field(None, max_length=255)
    last_name: str | None = Field(None, max_length=255)
    language: str | None = Field(None, max_length=20, description="Such as en or fr-CA")
    note: str | None = Field(None, max_length=5000)

    @model_validator(mode="after")
    def _somebody(self) -> Self:
        if not (self.customer_id or self.email or self.phone):
            raise ValueError("give customer_id, email or phone")
        return self


class CustomerOutput(BaseModel):
    customer_id: str


@shopify.action(
    "upsert_customer",
    title="Create or change a customer",
    input=CustomerInput,
    output=CustomerOutput,
    effect=Effect.IDEMPOTENT,
    scopes=["write_customers"],
    cost=MUTATION + OBJECT,
)
async def upsert_customer(ctx: ActionContext, input: CustomerInput) -> CustomerOutput:
    """Create a customer, or change the one of the same id, e-mail or phone. Their tags, addresses and consent stay.

    Raises Rejected, with the code TAKEN where the e-mail or phone belongs to another customer.
    """
    # Lists such as tags and addresses would be replaced whole, so none is ever sent. (GraphQL Admin API, `customerSet`)
    fields = {
        "email": input.email,
        "phone": input.phone,
        "firstName": input.first_name,
        "lastName": input.last_name,
        "locale": input.language,
        "note": input.note,
    }
    answer = await call(
        ctx,
        CUSTOMER_SET,
        {"identifier": _identifier(input), "input": {k: v for k, v in fields.items() if v is not None}},
    )
    if answer.customer_set.customer is None:
        raise OutcomeUnknown(
            "Shopify told of neither a customer nor an error", connector="shopify", connection_id=ctx.connection_id
        )
    return CustomerOutput(customer_id=rest_id(answer.customer_set.customer.id))


def _identifier(input: CustomerInput) -> dict[str, Any]:  # as JSON
    if input.customer_id:
        return {"id": gid("Customer", input.customer_id)}
    return {"email": input.email} if input.email else {"phone": input.phone}


@upsert_customer.simulate
def _pretend_customer(input: CustomerInput, now_ms: int) -> CustomerOutput:
    return CustomerOutput(customer_id=input.customer_id or "0")


@upsert_customer.describe
def _describe_customer(input: CustomerInput) -> str:
    known_by = "id" if input.customer_id else "e-mail address" if input.email else "phone number"
    given = [name for name, value in input if value is not None and name != "customer_id"]
    return f"create or change the customer of that {known_by}: {', '.join(given) or 'nothing'}"


# -- tags --------------------------------------------------------------------------------------------------------------


class TagInput(Input):
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
    scopes=["write_customers"],
    cost=MUTATION,
)
async def tag_customer(ctx: ActionContext, input: TagInput) -> TagOutput:
    """Add tags to those the customer has. Raises NotFound or Rejected when there is no such customer."""
    answer = await call(ctx, TAGS_ADD, {"id": gid("Customer", input.customer_id), "tags": input.tags})
    if answer.tags_add.node is None:
        raise not_found(ctx, f"customer {input.customer_id}")
    return TagOutput(customer_id=input.customer_id, tags=input.tags)


@tag_customer.simulate
def _pretend_tags(input: TagInput, now_ms: int) -> TagOutput:
    return TagOutput(customer_id=input.customer_id, tags=input.tags)


@tag_customer.describe
def _describe_tags(input: TagInput) -> str:
    return f"tag customer {input.customer_id} with {', '.join(input.tags)}"


@shopify.action(
    "untag_customer",
    title="Take tags off a customer",
    input=TagInput,
    output=TagOutput,
    effect=Effect.IDEMPOTENT,
    scopes=["write_customers"],
    cost=MUTATION,
)
async def untag_customer(ctx: ActionContext, input: TagInput) -> TagOutput:
    """Take tags off; those that the customer does not have are no error. Raises NotFound or Rejected as above."""
    answer = await call(ctx, TAGS_REMOVE, {"id": gid("Customer", input.customer_id), "tags": input.tags})
    if answer.tags_remove.node is None:
        raise not_found(ctx, f"customer {input.customer_id}")
    return TagOutput(customer_id=input.customer_id, tags=input.tags)


@untag_customer.simulate
def _pretend_untagged(input: TagInput, now_ms: int) -> TagOutput:
    return TagOutput(customer_id=input.customer_id, tags=input.tags)


@untag_customer.describe
def _describe_untagged(input: TagInput) -> str:
    return f"take {', '.join(input.tags)} off customer {input.customer_id}"
