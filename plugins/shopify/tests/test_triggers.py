"""What the hub takes from Shopify's webhooks, and which of them it believes."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub import (
    ActionContext,
    ConsentSignal,
    ConsentState,
    Delivery,
    InboundRequest,
    Money,
    PayloadError,
    SignatureError,
)
from hub.clock import parse_time_ms
from hub.connector import Http, Response
from hub_shopify import shopify
from hub_shopify.payloads import Checkout
from hub_shopify.sandbox import ShopifySandbox
from hub_shopify.triggers.checkouts import checkout_abandoned, still_abandoned

SECRET = "shpss_test_secret_0001"
BODY = '{"id":820982911946154508,"email":"jane@example.com","total_price":"42.00","note":"café"}'.encode()
SIGNATURE = "PrC2rAzfOGheTDsK7xQ+qg/wJRsxRH0H9oTkYBwlR4w="

Read = Callable[[str], dict[str, Any]]
Make = Callable[[str, Any], Delivery]


def call_of(body: bytes = BODY, **headers: str) -> InboundRequest:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return InboundRequest("POST", "https://hub.example/webhooks/shopify/k", named, body)


def verify(request: InboundRequest, **secrets: str) -> None:
    assert shopify.webhook
    shopify.webhook.verify(request, secrets or {"client_secret": SECRET})


# -- signatures --------------------------------------------------------------------------------------------------------


def test_a_body_signed_with_the_client_secret_is_believed() -> None:
    verify(call_of(x_shopify_hmac_sha256=SIGNATURE))


def test_the_newer_header_family_is_read_alike() -> None:
    # given
    request = call_of(
        shopify_hmac_sha256=SIGNATURE,
        shopify_topic="orders/paid",
        shopify_shop_domain="Some-Shop.myshopify.com",
        shopify_webhook_id="w-1",
    )

    # when
    verify(request)

    # then
    assert shopify.webhook
    assert shopify.webhook.topic(request) == "orders/paid"
    assert shopify.webhook.account(request) == "some-shop.myshopify.com"
    assert shopify.webhook.delivery_id(request) == "w-1"


def test_the_delivery_id_is_the_webhook_id_and_not_the_event_id() -> None:
    assert shopify.webhook
    request = call_of(x_shopify_hmac_sha256=SIGNATURE, x_shopify_webhook_id="w-1", x_shopify_event_id="e-1")
    assert shopify.webhook.delivery_id(request) == "w-1"


@given(position=st.integers(0, len(BODY) * 8 - 1))
def test_a_single_flipped_bit_of_the_body_is_refused(position: int) -> None:
    # given
    flipped = bytearray(BODY)
    flipped[position // 8] ^= 1 << position % 8

    # when, then
    with pytest.raises(SignatureError):
        verify(call_of(bytes(flipped), x_shopify_hmac_sha256=SIGNATURE))


@given(position=st.integers(0, 32 * 8 - 1))
def test_a_single_flipped_bit_of_the_signature_is_refused(position: int) -> None:
    # given
    flipped = bytearray(base64.b64decode(SIGNATURE))
    flipped[position // 8] ^= 1 << position % 8

    # when, then
    with pytest.raises(SignatureError):
        verify(call_of(x_shopify_hmac_sha256=base64.b64encode(flipped).decode()))


def test_the_same_json_written_differently_is_refused() -> None:
    with pytest.raises(SignatureError):
        verify(call_of(json.dumps(json.loads(BODY)).encode(), x_shopify_hmac_sha256=SIGNATURE))


@pytest.mark.parametrize("headers", [{}, {"x_shopify_hmac_sha256": ""}, {"x_shopify_hmac_sha256": "ü"}])
def test_a_call_without_a_readable_signature_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(SignatureError):
        verify(call_of(BODY, **headers))


@pytest.mark.parametrize("which", ["client_secret", "client_secret_previous", "store_webhook_secret"])
def test_each_configured_secret_may_sign(which: str) -> None:
    others = dict.fromkeys(("client_secret", "client_secret_previous", "store_webhook_secret"), "another secret")
    verify(call_of(x_shopify_hmac_sha256=SIGNATURE), **(others | {which: SECRET}))


def test_a_stranger_s_secret_is_refused_by_all() -> None:
    with pytest.raises(SignatureError):
        verify(call_of(x_shopify_hmac_sha256=SIGNATURE), client_secret="one", store_webhook_secret="another")


@given(body=st.binary(max_size=200), secret=st.text(min_size=1, max_size=40))
def test_signing_is_the_plain_hmac_of_the_raw_body(body: bytes, secret: str) -> None:
    expected = base64.b64encode(hmac.new(secret.encode(), body, hashlib.sha256).digest()).decode()
    verify(call_of(body, x_shopify_hmac_sha256=expected), client_secret=secret)


# -- payloads ----------------------------------------------------------------------------------------------------------


def test_an_order_is_read_in_clean_fields(sample: Read, delivered: Make) -> None:
    # when
    [event] = shopify.parse(delivered("orders/paid", sample("order_paid"))) or []

    # then
    assert event.fact_id == "order_paid:5778367414385"
    assert event.data["total"] == {"amount_minor": 6749, "currency": "USD"}
    assert event.data["name"] == "#1017"
    assert event.data["phone"] == "+14155550100"
    assert event.data["customer_id"] == "5747017285820"
    assert event.data["discount_codes"] == ["COMEBACK-9F3C7K2M4X"]
    assert event.data["tags"] == ["first order", "gift"]
    assert event.data["updated_at"] == "2026-11-02T02:31:50Z"
    assert event.data["line_items"][1] == {
        "title": "Gift wrap",
        "quantity": 2,
        "price": {"amount_minor": 500, "currency": "USD"},
        "product_id": None,
        "variant_id": None,
        "sku": None,
    }
    assert event.correlate == {
        "order_id": "5778367414385",
        "checkout_id": "35550298931313",
        "checkout_token": "84ad78572dae52a8cbea7d55371afe89",
        "cart_token": "Z2NwLXVzLWVhc3Qx",
    }
    assert event.occurred_at_ms == int(datetime(2026, 11, 2, 2, 31, 50, tzinfo=UTC).timestamp() * 1000)
    assert event.subject is not None
    assert event.subject.keys("my-shop") == [
        ("id:my-shop", "5747017285820"),
        ("email", "jane@example.com"),
        ("phone", "+14155550100"),
    ]
    assert event.subject.attributes() == {"first_name": "Jane", "last_name": "Doe", "language": "en-US"}


def test_a_checkout_matches_by_its_token_and_each_of_its_states_is_a_fact(sample: Read, delivered: Make) -> None:
    # given
    before = sample("checkout_updated")
    after = before | {"updated_at": "2026-11-01T21:25:00-05:00"}

    # when
    [first] = shopify.parse(delivered("checkouts/create", before)) or []
    [second] = shopify.parse(delivered("checkouts/update", after)) or []
    [again] = shopify.parse(delivered("checkouts/update", before)) or []

    # then
    assert first.correlate == {
        "checkout_id": "35550298931313",
        "checkout_token": "84ad78572dae52a8cbea7d55371afe89",
        "cart_token": "Z2NwLXVzLWVhc3Qx",
    }
    assert first.fact_id == "checkout_updated:35550298931313:2026-11-02T02:24:02+00:00"
    assert first.fact_id == again.fact_id != second.fact_id


def test_a_completed_checkout_is_another_event(sample: Read, delivered: Make) -> None:
    [event] = shopify.parse(delivered("checkouts/update", sample("checkout_completed"))) or []
    assert event.type == "shopify.checkout_completed"


@pytest.mark.parametrize(
    "without",
    [
        {"email": None, "phone": None, "customer": None},
        {"email": "", "phone": "", "customer": {}},
        {"email": None, "phone": "not a number", "customer": {"id": None, "email": "", "first_name": ""}},
    ],
)
def test_a_buyer_without_contact_data_is_anonymous(without: dict[str, Any], sample: Read, delivered: Make) -> None:
    # given
    body = sample("order_created") | {"billing_address": None} | without

    # when
    [event, *_] = shopify.parse(delivered("orders/create", body)) or []

    # then
    assert event.subject is not None
    assert event.subject.keys("my-shop") == []
    assert event.consents == ()


def test_a_field_left_out_is_as_good_as_null(sample: Read, delivered: Make) -> None:
    body = sample("checkout_updated")
    for name in (
        "email",
        "phone",
        "customer",
        "sms_marketing_phone",
        "line_items",
        "discount_codes",
        "customer_locale",
    ):
        del body[name]
    [event] = shopify.parse(delivered("checkouts/update", body)) or []
    assert event.data["email"] is None
    assert event.data["line_items"] == []


def test_a_shop_s_reading_of_a_foreign_number_follows_the_buyer_s_country(sample: Read, delivered: Make) -> None:
    address = {"country_code": "TR"}
    body = sample("order_created") | {"phone": "0532 123 45 67", "billing_address": address}
    [event, *_] = shopify.parse(delivered("orders/create", body)) or []
    assert event.data["phone"] == "+905321234567"


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": None},
        {"total_price": None},
        {"currency": None},
        {"total_price": "12.345"},
        {"total_price": "NaN"},
        {"total_price": 12},
        {"created_at": "yesterday"},
        {"updated_at": "2026-11-01T21:31:42"},
        {"line_items": [{"title": "Scarf", "quantity": 1}]},
        {"customer": "Jane"},
    ],
)
def test_a_body_that_makes_no_sense_is_kept_as_unreadable(wrong: dict[str, Any], sample: Read, delivered: Make) -> None:
    with pytest.raises(PayloadError) as refused:
        shopify.parse(delivered("orders/create", sample("order_created") | wrong))
    assert "jane@example.com" not in str(refused.value)


@pytest.mark.parametrize("body", [b"", b"[]", b'"text"', b"null", b"{", b'{"id": 1, "id": 2}'])
def test_a_body_that_is_no_object_is_kept_as_unreadable(body: bytes, delivered: Make) -> None:
    with pytest.raises(PayloadError):
        shopify.parse(delivered("orders/create", body))


def test_a_topic_without_a_trigger_is_nobody_s(delivered: Make) -> None:
    assert shopify.parse(delivered("themes/publish", {"id": 1})) is None


@given(minor=st.integers(0, 10**12), currency=st.sampled_from(["USD", "EUR", "TRY", "JPY", "KRW", "KWD", "CLP"]))
def test_money_arrives_exactly(minor: int, currency: str) -> None:
    # given
    decimals = {"JPY": 0, "KRW": 0, "CLP": 0, "KWD": 3}.get(currency, 2)
    text = f"{Decimal(minor).scaleb(-decimals):f}"
    body = {"id": 1, "name": "#1", "total_price": text, "currency": currency}
    times = {"created_at": "2026-11-01T21:31:40Z", "updated_at": "2026-11-01T21:31:40Z"}
    raw = json.dumps(body | times).encode()
    request = InboundRequest("POST", "https://hub.example/", {}, raw)

    # when
    [event] = shopify.parse(Delivery(request, "shopify", "my-shop", "s", "orders/create", 1)) or []

    # then
    assert Money.model_validate(event.data["total"]) == Money(amount_minor=minor, currency=currency)


@pytest.mark.parametrize("name", [name for name, t in shopify.triggers.items() if t.sample])
def test_a_stored_payload_reads_back_as_it_was(name: str, sample: Read, delivered: Make) -> None:
    trigger = shopify.triggers[name]
    assert trigger.parse
    for payload in trigger.parse(delivered(trigger.topics[0], sample(name))):
        assert trigger.payload.model_validate(payload.model_dump(mode="json")) == payload


# -- consent -----------------------------------------------------------------------------------------------------------


def test_ticked_boxes_grant_and_empty_ones_say_nothing(sample: Read, delivered: Make) -> None:
    # given
    ticked = sample("checkout_updated")
    empty = ticked | {"buyer_accepts_marketing": False, "buyer_accepts_sms_marketing": False}

    # when
    [granted] = shopify.parse(delivered("checkouts/update", ticked)) or []
    [silent] = shopify.parse(delivered("checkouts/update", empty)) or []

    # then
    # ticked when the checkout began at the earliest: whoever left since has left
    began = datetime.fromisoformat(ticked["created_at"])
    assert granted.consents == (
        ConsentSignal("email", "jane@example.com", ConsentState.GRANTED, "shopify_checkout", at=began),
        ConsentSignal("sms", "+14155550100", ConsentState.GRANTED, "shopify_checkout", at=began),
    )
    assert silent.consents == ()


def test_a_box_was_ticked_when_the_order_was_placed(sample: Read, delivered: Make) -> None:
    body = sample("order_paid") | {"buyer_accepts_marketing": True, "updated_at": "2026-12-24T10:00:00Z"}
    [paid] = shopify.parse(delivered("orders/paid", body)) or []
    assert [signal.at for signal in paid.consents] == [datetime.fromisoformat(body["created_at"])]


@pytest.mark.parametrize(
    ("state", "meaning"),
    [
        ("subscribed", ConsentState.GRANTED),
        ("SUBSCRIBED", ConsentState.GRANTED),
        ("unsubscribed", ConsentState.REVOKED),
        ("pending", None),
        ("not_subscribed", None),
        ("redacted", None),
    ],
)
def test_a_customer_s_consent_states(state: str, meaning: ConsentState | None, sample: Read, delivered: Make) -> None:
    # given
    said = {"state": state, "consent_updated_at": "2026-10-01T12:00:00+02:00"}
    consents = {"email_marketing_consent": said, "sms_marketing_consent": said}

    # when
    [event] = shopify.parse(delivered("customers/update", sample("customer_updated") | consents)) or []

    # then it was said when it was said, not when the customer changed
    at, addresses = datetime(2026, 10, 1, 10, tzinfo=UTC), {"email": "jane@example.com", "sms": "+14155550100"}
    told = [ConsentSignal(c, a, meaning, "shopify_customer", at=at) for c, a in addresses.items() if meaning]
    assert list(event.consents) == told


@pytest.mark.parametrize(("state", "since"), [("subscribed", "created_at"), ("unsubscribed", "updated_at")])
def test_a_consent_without_a_time_never_overrules_one_that_left(
    state: str, since: str, sample: Read, delivered: Make
) -> None:
    body = sample("customer_updated") | {"email_marketing_consent": {"state": state, "consent_updated_at": None}}
    [event] = shopify.parse(delivered("customers/update", body)) or []
    [told] = [signal for signal in event.consents if signal.channel == "email"]
    assert told.said_at_ms(event.occurred_at_ms) == parse_time_ms(body[since])


def test_newer_versions_may_leave_the_consent_out(sample: Read, delivered: Make) -> None:
    body = sample("customer_created")
    for name in ("email_marketing_consent", "sms_marketing_consent", "tags"):
        del body[name]
    [event] = shopify.parse(delivered("customers/create", body)) or []
    assert event.consents == ()
    assert event.data["tags"] == []


# -- the checkout that was left behind ---------------------------------------------------------------------------------


def watch_key(data: dict[str, Any]) -> str | None:
    assert checkout_abandoned.quiet
    return checkout_abandoned.quiet.key(data)


def test_an_order_ends_the_watch_of_its_checkout(sample: Read, delivered: Make) -> None:
    # given
    [checkout] = shopify.parse(delivered("checkouts/update", sample("checkout_updated"))) or []
    [completed] = shopify.parse(delivered("checkouts/update", sample("checkout_completed"))) or []
    [order, *_] = shopify.parse(delivered("orders/create", sample("order_created"))) or []
    quiet = checkout_abandoned.quiet

    # then
    assert quiet
    assert quiet.source == ("checkout_updated",)
    assert {completed.type, order.type} <= {f"shopify.{name}" for name in quiet.cancel}
    assert watch_key(dict(checkout.data)) == watch_key(dict(completed.data)) == watch_key(dict(order.data))


def test_an_order_without_contact_data_still_ends_the_watch(sample: Read, delivered: Make) -> None:
    body = sample("order_created") | {"email": None, "phone": None, "customer": None}
    [order, *_] = shopify.parse(delivered("orders/create", body)) or []
    assert watch_key(dict(order.data)) == "35550298931313"


def test_a_checkout_of_nobody_we_could_reach_is_not_watched(sample: Read, delivered: Make) -> None:
    body = sample("checkout_updated") | {"email": None, "phone": None, "customer": None, "sms_marketing_phone": None}
    [checkout] = shopify.parse(delivered("checkouts/update", body)) or []
    assert watch_key(dict(checkout.data)) is None


async def test_a_checkout_without_an_order_is_abandoned(ctx: ActionContext, sandbox: ShopifySandbox) -> None:
    # given an order of somebody else
    checkout = await began(sandbox, ctx.account, email="jane@example.com")
    await sandbox.order(None, ctx.account, email="jim@example.com")

    # when, then
    assert await still_abandoned(ctx, checkout)


async def test_a_checkout_that_became_an_order_is_not_abandoned(ctx: ActionContext, sandbox: ShopifySandbox) -> None:
    checkout = await began(sandbox, ctx.account, customer=None, email=None)
    await sandbox.order(None, ctx.account, checkout_token=checkout.checkout_token)
    assert not await still_abandoned(ctx, checkout)


@pytest.mark.parametrize("who", [{}, {"customer": None}], ids=["customer", "guest"])
async def test_who_ordered_since_in_another_checkout_has_abandoned_nothing(
    who: dict[str, Any], ctx: ActionContext, sandbox: ShopifySandbox
) -> None:
    checkout = await began(sandbox, ctx.account, email='"jane o\'doe"@example.com', **who)
    await sandbox.order(None, ctx.account, email='"jane o\'doe"@example.com')
    assert not await still_abandoned(ctx, checkout)


@dataclass
class _SearchingAllText:
    """A way out to a shop that does not know the buyer's term, and finds whatever was placed since."""

    http: Http

    async def request(self, method: str, path: str, **more: Any) -> Response:
        asked = more["json"]["variables"]
        asked["query"] = " ".join(term for term in asked["query"].split(" ") if term.startswith("created_at"))
        return await self.http.request(method, path, **more)


@pytest.mark.parametrize("who", [{}, {"customer": None}], ids=["customer", "guest"])
async def test_an_order_of_somebody_else_that_a_search_finds_does_not_count(
    who: dict[str, Any], ctx: ActionContext, sandbox: ShopifySandbox
) -> None:
    checkout = await began(sandbox, ctx.account, email="jane@example.com", **who)
    await sandbox.order(None, ctx.account, email="jim@example.com", customer={"id": 8})
    searching = replace(ctx, http=_SearchingAllText(ctx.http))
    assert await still_abandoned(searching, checkout)
    # and one of theirs does, whatever else is found
    known = {} if who else {"customer": {"id": checkout.customer_id}}
    await sandbox.order(None, ctx.account, email="Jane@example.com", **known)
    assert not await still_abandoned(searching, checkout)


async def test_an_order_from_before_the_checkout_does_not_count(ctx: ActionContext, sandbox: ShopifySandbox) -> None:
    await sandbox.order(None, ctx.account, email="jane@example.com", created_at="2026-11-01T10:00:00Z")
    checkout = await began(sandbox, ctx.account, email="jane@example.com")
    assert await still_abandoned(ctx, checkout)


async def test_a_checkout_that_only_a_poll_saw_is_asked_about_by_its_id(
    ctx: ActionContext, sandbox: ShopifySandbox
) -> None:
    # given one that its webhook told of, as the API shows it
    webhooked = await began(sandbox, ctx.account, email="jane@example.com")
    fetch = shopify.polls["checkout_updated"].fetch
    [polled] = [item async for page in fetch(ctx, None, 0) for item in page.items]
    assert (polled.checkout_id, polled.checkout_token) == (webhooked.checkout_id, webhooked.checkout_id)
    assert watch_key(polled.model_dump(mode="json")) == watch_key(webhooked.model_dump(mode="json"))
    assert await still_abandoned(ctx, polled)

    # when somebody orders it, whom only the checkout knows
    await sandbox.order(None, ctx.account, checkout_token="t0ken", customer=None, email="other@example.com")

    # then
    assert not await still_abandoned(ctx, polled)


async def began(sandbox: ShopifySandbox, shop: str, **fields: Any) -> Checkout:
    await sandbox.checkout(None, shop, token="t0ken", **fields)
    body = json.dumps(sandbox.shop(shop).checkouts["t0ken"]).encode()
    request = InboundRequest("POST", "https://hub.example/", {}, body)
    trigger = shopify.triggers["checkout_updated"]
    assert trigger.parse
    [checkout] = trigger.parse(Delivery(request, "shopify", "my-shop", shop, "checkouts/create", 1))
    assert isinstance(checkout, Checkout)
    return checkout
