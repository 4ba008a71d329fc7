"""One shop of the sandbox: its buyers, checkouts, orders and codes, kept as their webhooks show them, and its budget."""

from __future__ import annotations

import copy
import uuid
from dataclasses import dataclass, field
from typing import Any

Fields = dict[str, Any]  # a resource as Shopify writes it

PAID = ("paid", "partially_refunded", "refunded")
"""The financial states of an order that was paid in full, whatever went back since."""


@dataclass
class SandboxShop:
    """The state of one shop; times are RFC 3339 and given by the caller."""

    domain: str
    refilled_at_ms: int = 0
    currency: str = "EUR"
    zone: str = "Europe/Istanbul"
    customers: dict[str, Fields] = field(default_factory=dict)
    """By id."""
    signed_up: set[str] = field(default_factory=set)
    """Who became a customer, and did not just come to be known by a checkout or an order: whom the list of them shows."""
    checkouts: dict[str, Fields] = field(default_factory=dict)
    """By token."""
    orders: dict[str, Fields] = field(default_factory=dict)
    """By id."""
    discounts: dict[str, Fields] = field(default_factory=dict)
    """By lower-case code: the discount node as the API shows it."""
    subscriptions: dict[str, Fields] = field(default_factory=dict)
    """By id."""
    carts: dict[str, Fields] = field(default_factory=dict)
    """By token."""
    refunds: dict[str, Fields] = field(default_factory=dict)
    """By id."""
    refund_keys: dict[str, str] = field(default_factory=dict)
    """The refund that was made for each key."""
    drafts: dict[str, Fields] = field(default_factory=dict)
    """By id."""
    credit: dict[str, float] = field(default_factory=dict)
    """By customer."""
    segments: dict[str, str] = field(default_factory=lambda: {"301": "Win back", "302": "Champions"})
    """Names by id."""
    locations: dict[str, str] = field(default_factory=lambda: {"201": "Warehouse", "202": "Shop in the old town"})
    """Names by id."""
    variants: dict[str, Fields] = field(
        default_factory=lambda: {
            "41327142600817": {"id": "41327142600817", "name": "Wool scarf", "sku": "SC-1", "price": "60.00"},
            "41327142600818": {"id": "41327142600818", "name": "Wool hat", "sku": "HA-1", "price": "25.00"},
        }
    )
    """By id."""
    products: dict[str, Fields] = field(
        default_factory=lambda: {
            "7234590408817": {
                "id": "7234590408817",
                "name": "Wool scarf",
                "price": "60.00",
                "complementary": ["7234590408818"],
                "related": ["7234590408819", "7234590408818"],
            },
            "7234590408818": {"id": "7234590408818", "name": "Wool hat", "price": "25.00"},
            "7234590408819": {"id": "7234590408819", "name": "Silk scarf", "price": "80.00", "status": "DRAFT"},
        }
    )
    """By id. `complementary` and `related` are the ids that its merchant chose; only an active one is in the online store."""
    news: list[tuple[str, Fields]] = field(default_factory=list)
    """What happened through the API and was not yet told to subscribers: topics and bodies."""
    search_lag_ms: int = 0
    """How long it takes until a search finds what was written."""
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

    def tell(self, topic: str, body: Fields) -> None:
        """Have subscribers told of what happened."""
        self.news.append((topic, copy.deepcopy(body)))

    def known(self, *, id: str | None = None, email: str | None = None, phone: str | None = None) -> Fields | None:
        """The customer of an id, else of an e-mail address, else of a phone number."""
        if id:
            return self.customers.get(id)
        for name, value in (("email", email), ("phone", phone)):
            if value:
                return next((c for c in self.customers.values() if (c.get(name) or "").lower() == value.lower()), None)
        return None

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
            "checkout_id": checkout.get("id"),
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

    def cart(self, fields: Fields, now: str) -> Fields:
        """Begin a cart, or change the one of `token`."""
        token = fields.get("token") or uuid.uuid4().hex
        lines = fields.get("line_items") or self._cart()["line_items"]
        before = self.carts.get(token) or {"id": token, "token": token, "note": None, "created_at": now}
        body = before | {"updated_at": now} | fields | {"line_items": [self._cart_line(line) for line in lines]}
        self.carts[token] = body
        return body

    def _cart_line(self, line: Fields) -> Fields:
        """A line as carts have it: amounts in bags, with their currency."""
        total = f"{float(line['price']) * line['quantity']:.2f}"
        amounts = {"price": line["price"], "original_price": line["price"], "line_price": total}
        bags = {f"{n}_set": {"shop_money": {"amount": a, "currency_code": self.currency}} for n, a in amounts.items()}
        return line | amounts | bags | {"key": f"{line.get('variant_id')}:0"}

    def refund(self, order: Fields, amounts: list[str], note: str | None, now: str) -> Fields:
        """Pay amounts of an order back."""
        new = self.next_id()
        self.refunds[str(new)] = refund = {
            "id": new,
            "admin_graphql_api_id": f"gid://shopify/Refund/{new}",
            "order_id": order["id"],
            "note": note,
            "created_at": now,
            "processed_at": now,
            "refund_line_items": [],
            "transactions": [
                {"kind": "refund", "status": "success", "amount": amount, "currency": self.currency}
                for amount in amounts
            ],
        }
        order["updated_at"] = now
        order["financial_status"] = "partially_refunded" if self.refundable(order) else "refunded"
        return refund

    def refundable(self, order: Fields) -> float:
        """What of an order was paid and not yet paid back."""
        of_it = [refund for refund in self.refunds.values() if refund["order_id"] == order["id"]]
        back = sum(float(t["amount"]) for refund in of_it for t in refund["transactions"])
        paid = float(order["total_price"]) if order.get("financial_status") in PAID else 0.0
        return round(paid - back, 2)

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
        known = self.known(id=str(given["id"]) if given.get("id") else None, email=given.get("email"))
        is_news = known is None or any(known.get(name) != value for name, value in given.items())
        customer = self.customer(given, now) if known is None or is_news else known
        return {"customer": customer, "email": fields.get("email", customer["email"])}
