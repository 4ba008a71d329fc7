"""One shop of the sandbox: its buyers, checkouts, orders and codes, kept as their webhooks show them, and its budget."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any

Fields = dict[str, Any]  # a resource as Shopify writes it


@dataclass
class SandboxShop:
    """The state of one shop; times are RFC 3339 and given by the caller."""

    domain: str
    refilled_at_ms: int = 0
    currency: str = "EUR"
    zone: str = "Europe/Istanbul"
    customers: dict[str, Fields] = field(default_factory=dict)
    """By id."""
    checkouts: dict[str, Fields] = field(default_factory=dict)
    """By token."""
    orders: dict[str, Fields] = field(default_factory=dict)
    """By id."""
    discounts: dict[str, Fields] = field(default_factory=dict)
    """By lower-case code: the discount node as the API shows it."""
    subscriptions: dict[str, Fields] = field(default_factory=dict)
    """By id."""
    bucket: float = 1000.0
    bucket_size: float = 1000.0
    restore_rate: float = 100.0
    last_id: int = 5_000_000_000_000

    def next_id(self) -> int:
        """An id that nothing else in the shop has."""
        self.last_id += 1
        return self.last_id

    def take(self, cost: int, now_ms: int) -> bool:
        """Take points from the bucket; False when it holds too few."""
        refilled = self.bucket + max(0, now_ms - self.refilled_at_ms) / 1000 * self.restore_rate
        self.bucket, self.refilled_at_ms = min(self.bucket_size, refilled), now_ms
        if self.bucket < cost:
            return False
        self.bucket -= cost
        return True

    def checkout(self, fields: Fields, now: str) -> Fields:
        """Begin a checkout, or change the one of `token`."""
        token = fields.get("token") or uuid.uuid4().hex
        before = self.checkouts.get(token) or {
            "id": self.next_id(),
            "token": token,
            "cart_token": uuid.uuid4().hex,
            "buyer_accepts_sms_marketing": False,
            "sms_marketing_phone": None,
            "abandoned_checkout_url": f"https://{self.domain}/checkouts/ac/{token}/recover",
            "completed_at": None,
            "created_at": now,
            **self._cart(),
        }
        body = before | {"updated_at": now} | fields
        self.checkouts[token] = body | self._buyer(fields, before, now)
        return self.checkouts[token]

    def order(self, fields: Fields, now: str) -> Fields:
        """Place an order, out of the checkout of `checkout_token` if there is one; or change the one of `id`."""
        checkout = self.checkouts.get(fields.get("checkout_token") or "", {})
        taken_over = (*self._cart(), "cart_token", "email", "customer")
        before = self.orders.get(str(fields.get("id"))) or {
            "id": self.next_id(),
            "name": f"#{1001 + len(self.orders)}",
            "checkout_token": None,
            "cart_token": None,
            "tags": "",
            "financial_status": "paid",
            "created_at": now,
            **self._cart(),
            **{name: checkout[name] for name in taken_over if name in checkout},
        }
        body = before | {"updated_at": now} | fields
        body |= self._buyer(fields, before, now)
        self.orders[str(body["id"])] = body
        if checkout:
            checkout["completed_at"] = checkout["completed_at"] or now
        return body

    def customer(self, fields: Fields, now: str) -> Fields:
        """Create a customer, or change the one of `id` or `email`."""
        email = (fields.get("email") or "").lower()
        by_email = (c for c in self.customers.values() if email and (c["email"] or "").lower() == email)
        known = self.customers.get(str(fields.get("id"))) or next(by_email, None)
        new_id = fields.get("id") or self.next_id()
        before = known or {
            "id": new_id,
            "email": f"buyer{new_id}@example.com",
            "phone": None,
            "first_name": "Jane",
            "last_name": "Doe",
            "tags": "",
            "email_marketing_consent": None,
            "sms_marketing_consent": None,
            "created_at": now,
        }
        body = before | {"updated_at": now} | fields
        self.customers[str(body["id"])] = body
        return body

    def _cart(self) -> Fields:
        return {
            "phone": None,
            "currency": self.currency,
            "total_price": "60.00",
            "customer_locale": "en-US",
            "buyer_accepts_marketing": False,
            "discount_codes": [],
            "line_items": [
                {
                    "title": "Wool scarf",
                    "quantity": 1,
                    "price": "60.00",
                    "product_id": 7234590408817,
                    "variant_id": 41327142600817,
                    "sku": "SC-1",
                }
            ],
        }

    def _buyer(self, fields: Fields, before: Fields, now: str) -> Fields:
        """`customer` and `email` of a checkout or order: as told now, else as they were, else made up."""
        was = before.get("customer")
        given = {name: fields[name] for name in ("email", "phone") if fields.get(name)} | (fields.get("customer") or {})
        if fields.get("customer", was or given) is None:
            return {"customer": None, "email": fields.get("email", before.get("email"))}
        if was and not given:
            given = {"id": was["id"]}
        customer = self.customer(given, now)
        return {"customer": customer, "email": fields.get("email", customer["email"])}
