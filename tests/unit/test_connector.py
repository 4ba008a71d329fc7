"""Recognising a call: signatures over raw bytes, ages, several secrets."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, model_validator

from hub import Connector, Effect, Hmac, InboundRequest, PayloadError, SignatureError, StaleError, StaticToken, Webhook
from hub.connector import Delivery
from hub.errors import PluginError
from tests.acme import Note, Noted, acme

PLAIN = Hmac(header="X-Signature", encoding="hex", prefix="sha256=", secret=("new", "old"))
TIMED = Hmac(header="X-Signature", encoding="hex", timestamp="X-Time", tolerance_s=300)
NOW_MS = 1_800_000_000_000


def _request(body: bytes, **headers: str) -> InboundRequest:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return InboundRequest("POST", "https://hub.example.com/x", named, body, NOW_MS)


@given(st.binary(max_size=200), st.integers(0, 7), st.data())
def test_one_changed_bit_is_refused(body: bytes, bit: int, data: st.DataObject) -> None:
    signature = PLAIN.sign(body, "s")
    PLAIN.verify(_request(body, x_signature=signature), {"new": "s"})
    changed = bytearray(body or b"\0")
    if body:
        place = data.draw(st.integers(0, len(body) - 1))
        changed[place] ^= 1 << bit
    with pytest.raises(SignatureError):
        PLAIN.verify(_request(bytes(changed), x_signature=signature), {"new": "s"})


def test_any_of_the_configured_secrets_may_sign_during_a_rotation() -> None:
    request = _request(b"{}", x_signature=PLAIN.sign(b"{}", "before"))
    PLAIN.verify(request, {"new": "after", "old": "before"})
    with pytest.raises(SignatureError):
        PLAIN.verify(request, {"new": "after"})


def test_a_missing_signature_is_refused() -> None:
    with pytest.raises(SignatureError, match="x-signature is missing"):
        PLAIN.verify(_request(b"{}"), {"new": "s"})


@pytest.mark.parametrize(("age_s", "fits"), [(0, True), (299, True), (-299, True), (301, False), (-301, False)])
def test_a_signed_time_may_not_be_old(age_s: int, fits: bool) -> None:
    signed_at = str(NOW_MS // 1000 - age_s)
    request = _request(b"{}", x_signature=TIMED.sign(b"{}", "s", signed_at), x_time=signed_at)
    if fits:
        TIMED.verify(request, {"webhook_secret": "s"})
    else:
        with pytest.raises(StaleError, match="check the clocks"):
            TIMED.verify(request, {"webhook_secret": "s"})


def test_a_time_that_was_not_signed_is_refused() -> None:
    signed_at = str(NOW_MS // 1000)
    old = str(NOW_MS // 1000 - 10_000)
    with pytest.raises(SignatureError):
        TIMED.verify(
            _request(b"{}", x_signature=TIMED.sign(b"{}", "s", old), x_time=signed_at), {"webhook_secret": "s"}
        )
    with pytest.raises(SignatureError):
        TIMED.verify(_request(b"{}", x_signature=TIMED.sign(b"{}", "s", old)), {"webhook_secret": "s"})


def test_forms_keep_empty_values_and_order() -> None:
    request = InboundRequest("POST", "https://h/x?a=1&a=", {}, b"b=&c=+x%20")
    assert request.query == [("a", "1"), ("a", "")]
    assert request.form == [("b", ""), ("c", " x ")]
    assert Delivery(request, "c", "n", "a", "t", 0).params == {"a": "", "b": "", "c": " x "}


def test_the_headers_of_a_signed_call_are_what_the_webhook_reads() -> None:
    webhook = Hmac(
        header="X-Signature",
        timestamp="X-Time",
        topic="X-Topic",
        account="X-Account",
        delivery_id="X-Delivery",
        secret="s",
    )
    headers = webhook.headers(b"{}", "key", topic="paid", account="main", delivery_id="d-1", at_ms=NOW_MS)
    request = InboundRequest("POST", "https://hub.example.com/x", headers, b"{}", NOW_MS)
    webhook.verify(request, {"s": "key"})
    assert (webhook.topic(request), webhook.account(request), webhook.delivery_id(request)) == ("paid", "main", "d-1")


@pytest.mark.parametrize("body", [b"secret@example.com", b"a=" + b"\xff", b"&".join([b"a=1"] * 1001)])
def test_a_form_that_cannot_be_read_is_not_repeated_in_the_reason(body: bytes) -> None:
    with pytest.raises(PayloadError, match="is no form") as caught:
        _ = _request(body).form
    assert "secret" not in str(caught.value)


def test_a_webhook_that_verifies_nothing_cannot_be_made() -> None:
    class Trusting(Webhook):
        secrets = ("webhook_secret",)

    with pytest.raises(TypeError, match="verify"):
        Trusting()  # type: ignore[abstract]  # what is tried


def test_a_keyed_action_that_does_not_say_how_long_a_key_counts_is_refused() -> None:
    with pytest.raises(PluginError, match="too_trusting does not say how long the vendor remembers a key"):
        acme.action("too_trusting", input=Note, output=Noted, effect=Effect.KEYED)(_not_called)


async def _not_called(ctx: object, input: Note) -> Noted:
    raise AssertionError("it was refused")


def test_a_body_that_does_not_fit_is_refused_in_the_words_of_the_payload_alone() -> None:
    class Order(BaseModel):
        paid: int
        total: int

        @model_validator(mode="after")
        def _within(self) -> Self:
            if self.paid > self.total:
                raise ValueError("more was paid than it costs")
            return self

    shop = Connector(
        name="shop",
        title="Shop",
        hosts=["shop.test"],
        base_url=lambda _: "https://shop.test",
        account=lambda _: "main",
        auth=[StaticToken(headers=lambda _: {})],
    )

    @shop.trigger("paid", topic="paid", payload=Order, fact=lambda order: str(order.total))
    def paid(delivery: Delivery) -> Iterable[Order]:
        yield Order.model_validate(delivery.json())

    body = b'{"paid": 2, "total": 1}'
    with pytest.raises(PayloadError) as caught:
        shop.parse(Delivery(InboundRequest("POST", "https://h/x", {}, body), "c", "n", "a", "paid", 0))
    assert str(caught.value) == "paid: the whole: more was paid than it costs"
