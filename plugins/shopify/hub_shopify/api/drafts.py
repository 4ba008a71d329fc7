"""Draft orders and their invoices."""

from __future__ import annotations

from datetime import datetime

from hub_shopify.api.parts import MONEY_FIELDS, ShopMoney
from hub_shopify.client import Answer, Operation

_FIELDS = f"id name tags invoiceUrl invoiceSentAt totalPriceSet {MONEY_FIELDS}"


class DraftNode(Answer):
    id: str
    name: str
    tags: list[str]
    invoice_url: str | None
    invoice_sent_at: datetime | None
    total_price_set: ShopMoney


class DraftNodes(Answer):
    nodes: list[DraftNode]


class DraftsAnswer(Answer):
    tagged: DraftNodes
    newest: DraftNodes


class DraftAnswer(Answer):
    draft_order: DraftNode | None


class DraftCreated(Answer):
    draft_order: DraftNode


class DraftCreateAnswer(Answer):
    draft_order_create: DraftCreated


class InvoiceSent(Answer):
    draft_order: DraftNode


class InvoiceAnswer(Answer):
    draft_order_invoice_send: InvoiceSent


DRAFT_CREATE = Operation(
    f"""mutation DraftCreate($input: DraftOrderInput!) {{
  draftOrderCreate(input: $input) {{ draftOrder {{ {_FIELDS} }} userErrors {{ field message }} }}
}}""",
    DraftCreateAnswer,
)

# The search may lag behind what was written, the plain list is there as well to see what is quite new.
DRAFTS = Operation(
    f"""query Drafts($query: String!) {{
  tagged: draftOrders(first: 5, query: $query) {{ nodes {{ {_FIELDS} }} }}
  newest: draftOrders(first: 50, sortKey: ID, reverse: true) {{ nodes {{ {_FIELDS} }} }}
}}""",
    DraftsAnswer,
)

DRAFT = Operation(f"query Draft($id: ID!) {{ draftOrder(id: $id) {{ {_FIELDS} }} }}", DraftAnswer)

INVOICE_SEND = Operation(
    f"""mutation InvoiceSend($id: ID!, $email: EmailInput) {{
  draftOrderInvoiceSend(id: $id, email: $email) {{ draftOrder {{ {_FIELDS} }} userErrors {{ field message }} }}
}}""",
    InvoiceAnswer,
)
