"""Recognising Mailchimp's calls: signed and unsigned ones, trying an address, and the webhooks of audiences."""

from __future__ import annotations

import logging
from dataclasses import replace
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub import InboundRequest, PayloadError, SignatureError, StaleError, Subscription
from hub_mailchimp import mailchimp
from hub_mailchimp.marketing.webhook import SECRETS, nested
from hub_mailchimp.sandbox.hooks import flat, headers_of
from hub_mailchimp.sandbox.marketing import DEFAULT_LIST, MailchimpSandbox

from .conftest import NOW_MS, ContextMaker, Listener, facts

assert mailchimp.webhook
assert mailchimp.subscriptions
WEBHOOK, HOOKS = mailchimp.webhook, mailchimp.subscriptions
VECTORS = facts("signatures")["marketing"]
BODY = urlencode({"type": "subscribe", "data[list_id]": DEFAULT_LIST, "data[email]": "ada@example.test"}).encode()


def call(body: bytes = BODY, *, at_ms: int = NOW_MS, method: str = "POST", **headers: str) -> InboundRequest:
    named = {name.replace("_", "-").lower(): value for name, value in headers.items()}
    return InboundRequest(method, "https://hub.example.test/in/secret-path", named, body, at_ms)


def signed(body: bytes = BODY, *, secret: str = "s3cret", at_ms: int = NOW_MS) -> InboundRequest:
    headers = {name.lower(): value for name, value in headers_of(body, secret, at_ms).items()}
    return InboundRequest("POST", "https://hub.example.test/in/secret-path", headers, body, NOW_MS)


def verify(request: InboundRequest, known: str) -> None:
    WEBHOOK.verify(request, {SECRETS: known})


# -- signed ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", VECTORS, ids=str)
def test_the_vectors(vector: dict[str, object]) -> None:
    header = str(vector.get("header_value") or vector["expected"])
    request = call(
        str(vector["raw_body"]).encode(), at_ms=int(str(vector["timestamp"])) * 1000, X_Mailchimp_Signature=header
    )
    if vector.get("valid", True):
        verify(request, f"{DEFAULT_LIST}/w1:{vector['secret']}")
    else:
        with pytest.raises(SignatureError):
            verify(request, f"{DEFAULT_LIST}/w1:{vector['secret']}")


def test_any_webhook_of_the_connection_may_sign() -> None:
    verify(signed(secret="second"), "a/1:first b/2:second")
    verify(signed(secret="by-hand"), "by-hand")
    with pytest.raises(SignatureError, match="no signing secret"):
        verify(signed(secret="third"), "a/1:first b/2:second")


@pytest.mark.parametrize("age_s", [301, -301])
def test_an_old_call_is_refused(age_s: int) -> None:
    verify(signed(at_ms=NOW_MS - 299_000), "s3cret")
    with pytest.raises(StaleError):
        verify(signed(at_ms=NOW_MS - age_s * 1000), "s3cret")


@pytest.mark.parametrize("header", ["", "t=1", "v1=ab", "nonsense", "t=x,v1=", "t=1795169800,v1=é"])
def test_a_header_that_is_none_is_refused(header: str) -> None:
    with pytest.raises(SignatureError):
        verify(call(X_Mailchimp_Signature=header), "s3cret")


def test_the_word_unsigned_signs_nothing() -> None:
    with pytest.raises(SignatureError):
        verify(signed(secret="unsigned"), f"{DEFAULT_LIST}/w1:unsigned")


# -- unsigned ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "known", [f"{DEFAULT_LIST}/w1:unsigned", f"other/w2:s3cret {DEFAULT_LIST}/w1:unsigned", "unsigned"]
)
def test_a_webhook_that_is_known_to_be_unsigned_is_told_by_its_secret_path(known: str) -> None:
    verify(call(), known)


@pytest.mark.parametrize(
    "known", ["s3cret", f"{DEFAULT_LIST}/w1:s3cret", f"other/w1:unsigned {DEFAULT_LIST}/w2:s3cret"]
)
def test_where_the_webhook_signs_an_unsigned_call_is_refused(known: str) -> None:
    with pytest.raises(SignatureError, match="signs"):
        verify(call(), known)


@pytest.mark.parametrize("body", [b"", b"\xff", b"secret@example.test", b"type=subscribe"])
def test_a_body_of_no_known_audience_is_refused_and_not_repeated(body: bytes) -> None:
    with pytest.raises(SignatureError) as caught:
        verify(call(body), f"{DEFAULT_LIST}/w1:unsigned")
    assert "secret@" not in str(caught.value)


# -- trying the address ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "status"), [("GET", 200), ("HEAD", 200), ("POST", None)])
def test_the_address_is_tried_before_there_is_a_secret(method: str, status: int | None) -> None:
    reply = WEBHOOK.handshake(call(b"", method=method), {})
    assert (reply.status if reply else None) == status
    assert WEBHOOK.greets_first


# -- bracketed names ---------------------------------------------------------------------------------------------------

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="[]&="), min_size=1, max_size=5)
TREES = st.recursive(
    st.text(max_size=5), lambda inner: st.dictionaries(NAMES, inner, min_size=1, max_size=3), max_leaves=8
)


@given(st.dictionaries(NAMES, TREES, min_size=1, max_size=3))
def test_a_form_is_read_as_the_objects_it_was_made_of(tree: dict[str, object]) -> None:
    pairs = [pair for name, value in tree.items() for pair in flat(value, name)]
    assert nested(pairs) == tree


@pytest.mark.parametrize("pairs", [[("a", "1"), ("a[b]", "2")], [("a[b]", "2"), ("a", "1")], [("a" + "[b]" * 9, "1")]])
def test_names_that_contradict_each_other_or_go_too_deep_are_refused(pairs: list[tuple[str, str]]) -> None:
    with pytest.raises(PayloadError):
        nested(pairs)


# -- the webhooks of audiences -----------------------------------------------------------------------------------------


async def test_each_audience_gets_one_webhook_with_its_secret(
    marketing: MailchimpSandbox, mail: ContextMaker, listener: Listener
) -> None:
    async with mail() as ctx:
        [audience] = await HOOKS.wanted(ctx, ["subscribe", "cleaned"])
        made = await HOOKS.create(ctx, audience, listener.address)
        assert listener.tries == ["GET"]
        listed = await HOOKS.list(ctx)
    # the secret is told only once
    assert made.secret
    assert listed == [replace(made, secret=None)]
    await marketing.subscribe("ada@example.test")
    await marketing.settle()
    [told] = listener.calls
    verify(told, f"{made.id}:{made.secret}")
    with pytest.raises(SignatureError):
        verify(replace(told, body=told.body + b"&x=1"), f"{made.id}:{made.secret}")


async def test_a_webhook_that_is_not_signed_is_written_down_as_such_and_said(
    marketing: MailchimpSandbox, mail: ContextMaker, listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    marketing.signs = False
    with caplog.at_level(logging.WARNING):
        async with mail() as ctx:
            made = await HOOKS.create(ctx, DEFAULT_LIST, listener.address)
    assert made.secret == "unsigned"
    assert "does not sign" in caplog.text
    await marketing.subscribe("ada@example.test")
    await marketing.settle()
    verify(listener.calls[0], f"{made.id}:{made.secret}")


async def test_one_that_is_there_is_replaced_for_its_secret(
    marketing: MailchimpSandbox, mail: ContextMaker, listener: Listener
) -> None:
    async with mail() as ctx:
        lost = await HOOKS.create(ctx, DEFAULT_LIST, listener.address)
        again = await HOOKS.create(ctx, DEFAULT_LIST, listener.address)
        assert [hook.id for hook in await HOOKS.list(ctx)] == [again.id]
    assert again.id != lost.id


async def test_one_that_is_set_otherwise_is_of_a_topic_that_nobody_wants(
    marketing: MailchimpSandbox, mail: ContextMaker, listener: Listener
) -> None:
    async with mail() as ctx:
        await HOOKS.create(ctx, DEFAULT_LIST, listener.address)
    async with mail({"api_changes": "yes"}) as ctx:
        [found] = await HOOKS.list(ctx)
        assert found.topic not in await HOOKS.wanted(ctx, ["subscribe"])


async def test_deleting_one_that_is_gone_is_no_error(mail: ContextMaker) -> None:
    async with mail() as ctx:
        await HOOKS.delete(ctx, Subscription(f"{DEFAULT_LIST}/gone", DEFAULT_LIST, "https://hub.example.test/in"))


async def test_only_the_chosen_audiences_are_wanted_and_none_without_a_topic(mail: ContextMaker) -> None:
    async with mail({"lists": "aa11 bb22"}) as ctx:
        assert await HOOKS.wanted(ctx, ["subscribe"]) == ["aa11", "bb22"]
        assert await HOOKS.wanted(ctx, []) == []


async def test_what_the_hub_does_itself_is_not_told_back_unless_it_is_wanted(
    marketing: MailchimpSandbox, mail: ContextMaker, listener: Listener
) -> None:
    upsert = mailchimp.actions["upsert_member"]
    person = upsert.input(list_id=DEFAULT_LIST, email="ada@example.test")
    async with mail() as ctx:
        await HOOKS.create(ctx, DEFAULT_LIST, listener.address)
        await upsert.run(ctx, person)
        await marketing.settle()
        assert listener.calls == []
    async with mail({"api_changes": "yes"}) as ctx:
        await HOOKS.create(ctx, DEFAULT_LIST, listener.address)
        await upsert.run(ctx, person)
        await marketing.settle()
    assert [dict(told.form)["type"] for told in listener.calls] == ["profile"]
