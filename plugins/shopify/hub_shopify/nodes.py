"""From the nodes of the Admin API to payloads: what polls, histories and look-ups find, in the shape of webhooks' events."""

from __future__ import annotations

from collections.abc import Iterator

from hub import e164
from hub_shopify.api.checkouts import CheckoutNode
from hub_shopify.api.customers import CustomerNode
from hub_shopify.api.orders import BuyerNode, ChangedOrder, OrderNode, RefundedNode, RefundNode
from hub_shopify.api.parts import Address, LineNodes, Person
from hub_shopify.client import rest_id
from hub_shopify.payloads import Checkout, Customer, LineItem, Order, Refund


def order(node: OrderNode) -> Order:
    who, address = node.customer, node.billing_address
    return Order(
        order_id=rest_id(node.id),
        name=node.name,
        email=node.email or email_of(who),
        phone=_phone(address, node.phone, phone_of(who)),
        customer_id=rest_id(who.id) if who else None,
        first_name=(who.first_name if who else None) or (address.first_name if address else None),
        last_name=(who.last_name if who else None) or (address.last_name if address else None),
        language=node.customer_locale,
        checkout_token=node.checkout_token,
        cart_token=node.cart_token,
        total=node.total_price_set.money,
        discount_codes=node.discount_codes,
        line_items=_line_items(node.line_items),
        tags=node.tags,
        accepts_email_marketing=node.customer_accepts_marketing,
        cancelled_at=node.cancelled_at,
        created_at=node.created_at,
        updated_at=node.updated_at,
    )


def changed_order(node: ChangedOrder) -> Order:
    """The same with when it was paid and sent out, which a later change of it leaves as they were."""
    return order(node).model_copy(update={"paid_at": node.paid_at, "fulfilled_at": node.fulfilled_at})


def checkout(node: CheckoutNode) -> Checkout:
    who, address, known_by = node.customer, node.billing_address, rest_id(node.id)
    return Checkout(
        checkout_id=known_by,
        checkout_token=known_by,
        email=email_of(who),
        phone=_phone(address, phone_of(who)),
        customer_id=rest_id(who.id) if who else None,
        first_name=(who.first_name if who else None) or (address.first_name if address else None),
        last_name=(who.last_name if who else None) or (address.last_name if address else None),
        total=node.total_price_set.money,
        recovery_url=node.abandoned_checkout_url,
        discount_codes=node.discount_codes,
        line_items=_line_items(node.line_items),
        completed_at=node.completed_at,
        created_at=node.created_at,
        updated_at=node.updated_at,
    )


def customer(node: CustomerNode) -> Customer:
    email, phone = node.default_email_address, node.default_phone_number
    region = node.default_address.country if node.default_address else None
    return Customer(
        customer_id=rest_id(node.id),
        email=email.email_address if email else None,
        phone=e164(phone.phone_number, region) if phone else None,
        first_name=node.first_name,
        last_name=node.last_name,
        tags=node.tags,
        email_consent=email.marketing_state.lower() if email else None,
        email_consented_at=email.marketing_updated_at if email else None,
        sms_consent=phone.marketing_state.lower() if phone else None,
        sms_consented_at=phone.marketing_updated_at if phone else None,
        created_at=node.created_at,
        updated_at=node.updated_at,
    )


def refunds(node: RefundedNode) -> Iterator[Refund]:
    """Every refund of an order."""
    for one in node.refunds:
        yield refund(one, node)


def refund(node: RefundNode, of: BuyerNode) -> Refund:
    return Refund(
        refund_id=rest_id(node.id),
        order_id=rest_id(of.id),
        name=of.name,
        total=node.total_refunded_set.money,
        note=node.note,
        email=of.email or email_of(of.customer),
        phone=_phone(None, of.phone, phone_of(of.customer)),
        customer_id=rest_id(of.customer.id) if of.customer else None,
        processed_at=node.processed_at,
    )


def email_of(who: Person | None) -> str | None:
    """Their e-mail address, where Shopify tells it."""
    return who.default_email_address.email_address if who and who.default_email_address else None


def phone_of(who: Person | None) -> str | None:
    """Their phone number as the shop has it."""
    return who.default_phone_number.phone_number if who and who.default_phone_number else None


def _phone(address: Address | None, *numbers: str | None) -> str | None:
    region = address.country if address else None
    parsed = (e164(number, region) for number in numbers if number)
    return next((number for number in parsed if number), None)


def _line_items(lines: LineNodes) -> list[LineItem]:
    return [
        LineItem(
            title=line.title or "",
            quantity=line.quantity,
            price=line.original_unit_price_set.money,
            product_id=rest_id(line.product.id) if line.product else None,
            variant_id=rest_id(line.variant.id) if line.variant else None,
            sku=line.sku,
        )
        for line in lines.nodes
    ]
