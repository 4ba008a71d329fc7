"""The greeting and the signature: Meta's scheme by its vector, and what is refused."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import pytest

from hub import InboundRequest, PayloadError, SignatureError
from hub_facebook_ads.sandbox import FacebookSandbox
from hub_facebook_ads.webhook import FacebookWebhook, sign

SECRET = "meta_app_secret_0001"
BODY = (
    b'{"object":"page","entry":[{"id":"111","time":1790000000,"changes":[{"field":"leadgen","value":'
    b'{"leadgen_id":"9006","page_id":"111","form_id":"222","created_time":1790000000}}]}]}'
)
SIGNATURE = "sha256=337121c32a3d0849bfb428e458e328d49cb7300be03863b1d241371fb9c2778f"
ADDRESS = "https://hub.example/webhooks/facebook_ads/k"
WEBHOOK = FacebookWebhook()


def call(body: bytes = BODY, **headers: str) -> InboundRequest:
    return InboundRequest("POST", ADDRESS, {name.replace("_", "-"): value for name, value in headers.items()}, body)


def greeting(query: str, secrets: dict[str, str]) -> Any:
    return WEBHOOK.handshake(InboundRequest("GET", f"{ADDRESS}?{query}", {}, b""), secrets)


def test_the_vector_of_the_signature() -> None:
    assert sign(BODY, SECRET) == SIGNATURE
    WEBHOOK.verify(call(x_hub_signature_256=SIGNATURE), {"app_secret": SECRET})


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x_hub_signature_256": SIGNATURE.removeprefix("sha256=")},
        {"x_hub_signature_256": SIGNATURE.upper()},
        {"x_hub_signature_256": SIGNATURE[:-1] + "0"},
        {"x_hub_signature": "sha1=" + hmac.new(SECRET.encode(), BODY, hashlib.sha1).hexdigest()},
    ],
)
def test_any_other_signature_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(SignatureError):
        WEBHOOK.verify(call(**headers), {"app_secret": SECRET, "verify_token": "v"})


def test_the_verify_token_signs_nothing() -> None:
    with pytest.raises(SignatureError, match="app_secret"):
        WEBHOOK.verify(call(x_hub_signature_256=sign(BODY, "v")), {"verify_token": "v"})
    with pytest.raises(SignatureError):
        WEBHOOK.verify(call(x_hub_signature_256=sign(BODY, "v")), {"verify_token": "v", "app_secret": SECRET})


def test_the_raw_bytes_are_signed_with_their_escapes() -> None:
    escaped, plain = rb'{"name":"J\u00e4n\/e"}', '{"name":"Jän/e"}'.encode()
    WEBHOOK.verify(call(escaped, x_hub_signature_256=sign(escaped, SECRET)), {"app_secret": SECRET})
    with pytest.raises(SignatureError):
        WEBHOOK.verify(call(plain, x_hub_signature_256=sign(escaped, SECRET)), {"app_secret": SECRET})


def test_the_greeting_is_answered_with_the_bare_challenge() -> None:
    reply = greeting("hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=v", {"verify_token": "v"})
    assert (reply.status, reply.body, reply.content_type) == (200, b"1158201444", "text/plain")


@pytest.mark.parametrize(
    ("query", "secrets"),
    [
        ("hub.mode=subscribe&hub.challenge=1&hub.verify_token=w", {"verify_token": "v"}),
        ("hub.mode=subscribe&hub.challenge=1", {"verify_token": "v"}),
        ("hub.mode=subscribe&hub.challenge=1&hub.verify_token=", {"app_secret": "v"}),
        ("hub.mode=subscribe&hub.challenge=1&hub.verify_token=v", {"app_secret": "v"}),
    ],
)
def test_a_greeting_with_another_token_is_forbidden(query: str, secrets: dict[str, str]) -> None:
    assert (greeting(query, secrets).status, greeting(query, secrets).body) == (403, b"")


def test_what_is_no_greeting_is_left_to_the_signature() -> None:
    assert greeting("hub.mode=unsubscribe&hub.challenge=1&hub.verify_token=v", {"verify_token": "v"}) is None
    asked = InboundRequest("POST", f"{ADDRESS}?hub.mode=subscribe&hub.verify_token=v", {}, b"")
    assert WEBHOOK.handshake(asked, {"verify_token": "v"}) is None


async def test_an_address_proves_itself_over_http(sandbox: FacebookSandbox, inbox: Any) -> None:
    assert await sandbox.greet(inbox.url, inbox.secrets["verify_token"])
    assert not await sandbox.greet(inbox.url, "another")


@pytest.mark.parametrize(
    ("body", "topic", "account"),
    [
        (BODY, "leadgen", "111"),
        (b'{"object":"page","entry":[{"id":5,"changes":[{"field":"feed"},{"field":"leadgen"}]}]}', "leadgen", "5"),
        (b'{"object":"page","entry":[{"id":"5","changes":[{"field":"feed"}]}]}', "page.feed", "5"),
        (b'{"object":"user","entry":[]}', "user", None),
        (b"[]", "unknown", None),
    ],
)
def test_the_kind_and_the_page_stand_in_the_body(body: bytes, topic: str, account: str | None) -> None:
    assert WEBHOOK.topic(call(body)) == topic
    assert WEBHOOK.account(call(body)) == account


def test_a_body_that_is_no_json_cannot_be_read() -> None:
    with pytest.raises(PayloadError):
        WEBHOOK.topic(call(b"<html>"))
