"""The contract of every connector, for both of this plugin's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qsl

from hub import RateLimited, SkipStep
from hub.testing.contract import Call, Contract
from hub_mailchimp import mailchimp, mandrill
from hub_mailchimp.sandbox.hooks import headers_of
from hub_mailchimp.sandbox.marketing import DEFAULT_LIST, MailchimpSandbox
from hub_mailchimp.sandbox.state import Store
from hub_mailchimp.sandbox.transactional import MandrillSandbox, seal

FIXTURES = Path(__file__).parent / "fixtures"
ADA = {"list_id": DEFAULT_LIST, "email": "ada@example.test"}
CART = {
    "store_id": "shop-1",
    "customer_id": "c-7",
    "email": "ada@example.test",
    "total": "59.80 EUR",
    "lines": [{"line_id": "1", "product_id": "p-1", "product_variant_id": "v-1", "quantity": 2, "price": "29.90 EUR"}],
}


class TestMailchimp(Contract):
    connector = mailchimp
    settings = {"account": "acme", "member_poll": "all"}
    fixtures = FIXTURES / "marketing"
    # At the edge Mailchimp throttles with a bare 403; one about permissions comes with a problem.
    errors = {403: RateLimited, ("unsubscribe_member", 404): SkipStep}
    inputs = {
        "upsert_member": {**ADA, "merge_fields": {"FNAME": "Ada"}},
        "add_member": {"list_id": DEFAULT_LIST, "email": "new@example.test"},
        "update_merge_fields": {**ADA, "merge_fields": {"LNAME": "King"}},
        "add_tags": {**ADA, "tags": ["vip"]},
        "remove_tags": {**ADA, "tags": ["vip"]},
        "unsubscribe_member": ADA,
        "archive_member": ADA,
        "add_event": {**ADA, "name": "cart_abandoned", "properties": {"cart_id": "A-77"}},
        "start_journey_step": {"journey_id": 7, "step_id": 3, "email": "ada@example.test"},
        "send_campaign": {
            "list_id": DEFAULT_LIST,
            "subject": "November news",
            "from_name": "Team",
            "reply_to": "team@example.test",
            "html": "<p>Hello</p>",
        },
        "upsert_cart": {**CART, "cart_id": "A-77"},
        "upsert_order": {**CART, "order_id": "O-77"},
    }

    within = {"merge_fields": {"list_id": DEFAULT_LIST}}

    # Tokens of accounts that were authorised in the browser never end, and cannot be renewed.
    test_a_token_that_ends_is_renewed_and_the_action_done = None

    async def prepare(self, sandbox: MailchimpSandbox) -> None:
        """Members of every kind, a campaign that they opened, clicked and bounced, what can be chosen, and a shop with a cart."""
        account = sandbox.account("acme")
        account.journeys.add((7, 3))
        now_ms = sandbox.clock.now_ms()
        # What changed within this second is only told in the next.
        sandbox.clock.offset_ms -= 90_000
        for name in ("ada", "bob", "cleo", "gone"):
            await sandbox.subscribe(f"{name}@example.test", "acme")
        sandbox.send("acme", campaign := sandbox.draft("acme"))
        await sandbox.act(campaign, "ada@example.test", "open", "acme", at_ms=now_ms)
        await sandbox.act(campaign, "ada@example.test", "click", "acme", url="https://shop.example.test/", at_ms=now_ms)
        await sandbox.act(campaign, "gone@example.test", "bounce", "acme", type="hard", at_ms=now_ms)
        await sandbox.unsubscribe("cleo@example.test", "acme")
        await sandbox.clean("gone@example.test", "acme")
        sandbox.clock.offset_ms += 90_000 - 5_000
        await sandbox.change("bob@example.test", "acme", FNAME="Bob")
        sandbox.clock.offset_ms += 5_000
        old = sandbox.draft("acme")
        sandbox.send("acme", old)
        account.campaigns[old]["send_time"] = "2026-01-01T10:00:00+00:00"
        account.lists[DEFAULT_LIST].segment("vip")
        account.templates.append({"id": 77, "name": "Newsletter", "type": "user"})
        account.stores["shop-1"] = Store("shop-1", DEFAULT_LIST)
        account.stores["shop-2"] = shop = Store("shop-2", DEFAULT_LIST)
        shop.carts["A-1"] = {
            "id": "A-1",
            "customer": {"id": "c-1", "email_address": "bob@example.test"},
            "currency_code": "EUR",
            "order_total": 10,
            "lines": [],
            "updated_at": "2026-11-20T10:00:00+00:00",
        }

    def sign(self, call: Call) -> Mapping[str, str]:
        return headers_of(call.body, call.secret, call.at_ms)


class TestMandrill(Contract):
    connector = mandrill
    settings = {"from_email": "team@example.test"}
    fixtures = FIXTURES / "transactional"
    inputs = {
        "send_email": {"to": "ada@example.test", "subject": "Your cart", "html": "<p>Hi</p>"},
        "send_template": {"to": "ada@example.test", "template": "cart", "content": {"main": "Hi"}},
    }

    def prepare(self, sandbox: MandrillSandbox) -> None:
        sandbox.templates["main"] = [{"slug": "cart", "name": "Cart"}]
        sandbox.subaccounts["main"] = [{"id": "shop", "name": "Shop"}]

    def sign(self, call: Call) -> Mapping[str, str]:
        form = dict(parse_qsl(call.body.decode(errors="replace"), keep_blank_values=True))
        return {"X-Mandrill-Signature": seal(call.secret, call.url, form)}
