"""The contract of every connector."""

from __future__ import annotations

from hub import VendorUnavailable
from hub.clock import rfc3339
from hub.testing.contract import Contract
from hub_shopify import shopify
from hub_shopify.sandbox import ShopifySandbox

SHOP = "some-shop.myshopify.com"
CUSTOMER = {"customer_id": "7"}
ORDER = {"order_id": "70"}


class TestShopify(Contract):
    connector = shopify
    settings = {"shop": SHOP}
    inputs = {
        "create_discount": {"title": "Back again", "prefix": "BACK", "percentage": 10},
        "upsert_customer": {"email": "jane@example.com", "first_name": "Jane"},
        "tag_customer": {**CUSTOMER, "tags": ["vip"]},
        "untag_customer": {**CUSTOMER, "tags": ["vip"]},
        "set_email_consent": {**CUSTOMER, "state": "subscribed"},
        "set_sms_consent": {**CUSTOMER, "state": "unsubscribed"},
        "tag_order": {**ORDER, "tags": ["gift"]},
        "add_order_note": {**ORDER, "note": "Wrap it well"},
        "create_draft_order": {**CUSTOMER, "lines": [{"variant_id": "41327142600817"}]},
        "send_invoice": {"draft_order_id": "700", "email": "jane@example.com"},
        "refund_order": {**ORDER, "amount": "5.00 EUR", "at_most": "10.00 EUR"},
        "give_store_credit": {**CUSTOMER, "amount": "5.00 EUR", "expires_after": "90d"},
        "find_customer": {"email": "jane@example.com"},
        "find_orders": CUSTOMER,
        "find_checkout": {"checkout_id": "71"},
        "find_product_recommendations": {"products": ["7234590408817"]},
    }

    # These begin with a question, or are nothing else: whatever becomes of it, nothing was done.
    errors = {
        (action, 500): VendorUnavailable
        for action in (
            "add_order_note",
            "find_checkout",
            "find_customer",
            "find_orders",
            "find_product_recommendations",
            "refund_order",
            "set_email_consent",
            "set_sms_consent",
        )
    }

    def prepare(self, sandbox: ShopifySandbox) -> None:
        """A customer who ordered, began something else, was refunded, and was offered more."""
        shop, now = sandbox.shop(SHOP), rfc3339(sandbox.clock.now_ms())
        customer = shop.customer({"id": 7, "email": "jane@example.com", "phone": "+14155550100"}, now)
        shop.signed_up.add("7")
        shop.checkout({"id": 71, "token": "t-1", "customer": {"id": 7}}, now)
        done = {"cancelled_at": now, "fulfillment_status": "fulfilled", "discount_codes": [{"code": "BACK-1"}]}
        order = shop.order({"id": 70, "customer": {"id": customer["id"]}, **done}, now)
        shop.refund(order, ["1.00"], None, now)
        known = {"__typename": "DiscountCodeBasic", "title": "Spring sale", "codes": {"nodes": [{"code": "SPRING"}]}}
        shop.discounts["spring"] = {"id": "gid://shopify/DiscountCodeNode/1", "codeDiscount": known}
        # How fast is not of interest here: a page of discounts costs half of what the smallest plan has.
        shop.bucket = shop.bucket_size = 100_000
        shop.drafts["700"] = {
            "id": "700",
            "name": "#D1",
            "tags": [],
            "email": "jane@example.com",
            "total": 60.0,
            "invoice_sent_at": None,
            "updated_at": now,
        }
