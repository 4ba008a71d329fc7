"""What happens in a shop without the API: what people do there, as the topics and bodies that Shopify tells it by."""

from __future__ import annotations

from collections.abc import Callable

from hub_shopify.sandbox.ids import gid
from hub_shopify.sandbox.shop import Fields, SandboxShop

Told = tuple[list[str], Fields]
"""Topics, in their order, and the body that all of them carry."""


def checkout(shop: SandboxShop, fields: Fields, now: str) -> Told:
    """A buyer begins a checkout, or changes the one of `token`."""
    topic = "checkouts/update" if fields.get("token") in shop.checkouts else "checkouts/create"
    return [topic], shop.checkout(fields, now)


def order(shop: SandboxShop, fields: Fields, now: str) -> Told:
    """A buyer places an order and pays it; or the one of `id` is cancelled (`cancelled_at`) or sent out."""
    topics = ["orders/create", "orders/paid"]
    if fields.get("cancelled_at"):
        topics = ["orders/cancelled"]
    elif fields.get("fulfillment_status") == "fulfilled":
        topics = ["orders/fulfilled"]
    return topics, shop.order(fields, now)


def customer(shop: SandboxShop, fields: Fields, now: str) -> Told:
    """A customer is created, or the one of `id` or `email` changed."""
    known = len(shop.customers)
    body = shop.customer(fields, now)
    shop.signed_up.add(str(body["id"]))
    return ["customers/create" if len(shop.customers) > known else "customers/update"], body


def cart(shop: SandboxShop, fields: Fields, now: str) -> Told:
    """Somebody fills a cart of the online store, or changes the one of `token`."""
    topic = "carts/update" if fields.get("token") in shop.carts else "carts/create"
    return [topic], shop.cart(fields, now)


def refund(shop: SandboxShop, fields: Fields, now: str) -> Told:
    """Somebody of the shop pays `amount` of the order `order_id` back."""
    order = shop.orders[str(fields["order_id"])]
    return ["refunds/create"], shop.refund(
        order, [str(fields.get("amount", order["total_price"]))], fields.get("note"), now
    )


def tags(shop: SandboxShop, fields: Fields, now: str) -> Told:
    """A customer gets the tags `added`, or loses those `removed`."""
    how = "removed" if fields.get("removed") else "added"
    customer = shop.customers[str(fields["customer_id"])]
    had = [tag for tag in (customer.get("tags") or "").split(", ") if tag]
    changed = fields[how]
    left = [tag for tag in had if tag not in changed] if how == "removed" else [*had, *changed]
    customer |= {"tags": ", ".join(dict.fromkeys(left)), "updated_at": now}
    body = {"customerId": gid("Customer", customer["id"]), "tags": changed, "occurredAt": now}
    return [f"customer.tags_{how}"], body


def segment(shop: SandboxShop, fields: Fields, now: str) -> Told:
    """A customer joins the segment `segment_id`, or with `"joined": false` leaves it."""
    body = {
        "customer_id": gid("Customer", fields["customer_id"]),
        "segment_id": gid("Segment", fields["segment_id"]),
        "shop_id": gid("Shop", 1),
    }
    return ["customer.joined_segment" if fields.get("joined", True) else "customer.left_segment"], body


def consent(shop: SandboxShop, fields: Fields, now: str) -> Told:
    """A customer changes their mind about marketing: `channel` (email or sms) and `state`."""
    customer = shop.customers[str(fields["customer_id"])]
    said = {"state": fields["state"], "opt_in_level": "single_opt_in", "consent_updated_at": now}
    if fields.get("channel", "email") == "email":
        customer |= {"email_marketing_consent": said, "updated_at": now}
        told = {"customer_id": customer["id"], "email_address": customer["email"], "email_marketing_consent": said}
        return ["customers_email_marketing_consent/update"], told
    said |= {"consent_collected_from": "SHOPIFY"}
    customer |= {"sms_marketing_consent": said, "updated_at": now}
    told = {"id": customer["id"], "phone": customer["phone"], "sms_marketing_consent": said}
    return ["customers_marketing_consent/update"], told


def stock(shop: SandboxShop, fields: Fields, now: str) -> Told:
    """The variant `variant_id` comes back in stock, `quantity` of it."""
    variant = shop.variants[str(fields["variant_id"])]
    body = {
        "id": int(variant["id"]),
        "product_id": fields.get("product_id"),
        "title": variant["name"],
        "sku": variant["sku"],
        "price": variant["price"],
        "inventory_policy": "deny",
        "inventory_quantity": fields.get("quantity", 1),
        "created_at": now,
        "updated_at": now,
        "admin_graphql_api_id": gid("ProductVariant", variant["id"]),
    }
    return ["variants/in_stock"], body


def uninstall(shop: SandboxShop, fields: Fields, now: str) -> Told:
    """The shop removes the app."""
    body = {"id": 1, "name": shop.domain.partition(".")[0], "domain": shop.domain, "myshopify_domain": shop.domain}
    return ["app/uninstalled"], body


def privacy(shop: SandboxShop, fields: Fields, now: str) -> Told:
    """What the law lets ask for, by `what`: `customers/data_request`, `customers/redact` or `shop/redact`."""
    body: Fields = {"shop_id": 1, "shop_domain": shop.domain}
    if fields["what"] == "shop/redact":
        return ["shop/redact"], body
    customer = {name: fields[name] for name in ("id", "email", "phone") if name in fields}
    orders = [o["id"] for o in shop.orders.values() if (o.get("customer") or {}).get("id") == fields.get("id")]
    if fields["what"] == "customers/data_request":
        asked = {"orders_requested": orders, "data_request": {"id": shop.next_id()}}
        return ["customers/data_request"], body | {"customer": customer} | asked
    return ["customers/redact"], body | {"customer": customer, "orders_to_redact": orders}


HAPPENINGS: dict[str, Callable[[SandboxShop, Fields, str], Told]] = {
    one.__name__: one
    for one in (checkout, order, customer, cart, refund, tags, segment, consent, stock, uninstall, privacy)
}
