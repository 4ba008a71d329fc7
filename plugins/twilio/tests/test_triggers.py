"""Twilio's calls: what is believed, and which events come of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub import ConsentSignal, ConsentState, Delivery, Event, Identity, InboundRequest, PayloadError, SignatureError
from hub_twilio import twilio
from hub_twilio.triggers.messages import START_WORDS, STOP_WORDS
from hub_twilio.triggers.statuses import STATUS_RANK
from hub_twilio.webhook import TwilioWebhook, sign, spellings

TOKEN = {"auth_token": "12345"}
URL = "https://hub.example.com/webhooks/twilio/in/abc?tenant=7"
PORT_URL = "https://hub.example.com:443/webhooks/twilio/in/abc?tenant=7"
PARAMS = [
    ("AccountSid", "AC00000000000000000000000000000001"),
    ("Body", "STOP "),
    ("From", "+14155550100"),
    ("MessageSid", "SM00000000000000000000000000000001"),
    ("NumMedia", "0"),
    ("OptOutType", "STOP"),
    ("To", "+14155550199"),
]
# Computed with twilio-python 9.13.0.
SIGNATURE = "ebQGsCAf/WN9ZSU2hk13PM78vI8="
PORT_SIGNATURE = "nsotUAn0768L04CpZDCzWleSQm8="
SHARED_KEY_SIGNATURE = "SFIfosy9PIk0w1c2PNZ/bXZmwnWcTlwii9BTGKsdAAY="
JSON_URL = "https://hub.example.com/events?bodySHA256=015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862"
JSON_SIGNATURE = "QUmAy/+A8Ej+LWGock7hc97ksis="

PERSON = "+14155550100"
FIXTURES = Path(__file__).parent / "fixtures"
DeliveryMaker = Callable[..., Delivery]

FORM = {"content-type": "application/x-www-form-urlencoded"}
JSON = {"content-type": "application/json"}

webhook = TwilioWebhook()


def call(
    signature: str | None,
    params: Sequence[tuple[str, str]] = PARAMS,
    url: str = URL,
    body: bytes | None = None,
    method: str = "POST",
    headers: Mapping[str, str] = FORM,
) -> InboundRequest:
    given = dict(headers)
    if signature is not None:
        given["x-twilio-signature"] = signature
    return InboundRequest(method, url, given, urlencode(params).encode() if body is None else body)


def signed(params: Sequence[tuple[str, str]], url: str = URL) -> InboundRequest:
    return call(sign(url, params, "12345"), params, url)


def refused(request: InboundRequest, secrets: dict[str, str] = TOKEN) -> str:
    with pytest.raises(SignatureError) as caught:
        webhook.verify(request, secrets)
    return str(caught.value)


# -- what is believed --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", [URL, PORT_URL])
@pytest.mark.parametrize("signature", [SIGNATURE, PORT_SIGNATURE])
def test_a_call_is_believed_whichever_spelling_of_the_port_was_signed(url: str, signature: str) -> None:
    webhook.verify(call(signature, url=url), TOKEN)


def test_an_address_on_another_port_is_believed_with_and_without_it() -> None:
    assert spellings("http://127.0.0.1:8080/in?a=1#rc=3") == ["http://127.0.0.1/in?a=1", "http://127.0.0.1:8080/in?a=1"]
    assert spellings("http://[::1]/in") == ["http://[::1]/in", "http://[::1]:80/in"]
    assert spellings("https://hub.example.com?a=http://x:1/") == [
        "https://hub.example.com?a=http://x:1/",
        "https://hub.example.com:443?a=http://x:1/",
    ]


def test_the_order_of_the_parameters_does_not_matter() -> None:
    webhook.verify(call(SIGNATURE, PARAMS[::-1]), TOKEN)


def test_repeated_names_count_with_their_distinct_values_sorted() -> None:
    repeated = [("MediaUrl", "b"), ("MediaUrl", "a"), ("MediaUrl", "b")]
    signature = sign(URL, [("MediaUrl", "a"), ("MediaUrl", "b")], "12345")
    webhook.verify(call(signature, repeated), TOKEN)


def test_empty_values_are_part_of_what_is_signed() -> None:
    with_blank = [*PARAMS, ("FromZip", "")]
    webhook.verify(signed(with_blank), TOKEN)
    refused(call(SIGNATURE, with_blank))


def test_blanks_around_a_value_are_part_of_what_is_signed() -> None:
    trimmed = [(name, value.strip()) for name, value in PARAMS]
    refused(call(SIGNATURE, trimmed))


@pytest.mark.parametrize("left_out", range(len(PARAMS)))
def test_a_missing_parameter_is_noticed(left_out: int) -> None:
    refused(call(SIGNATURE, PARAMS[:left_out] + PARAMS[left_out + 1 :]))


def test_an_added_parameter_is_noticed() -> None:
    refused(call(SIGNATURE, [*PARAMS, ("Extra", "1")]))


def test_another_query_string_is_noticed() -> None:
    refused(call(SIGNATURE, url=URL.replace("tenant=7", "tenant=8")))


@given(position=st.integers(0, len(urlencode(PARAMS)) - 1), bit=st.integers(0, 7))
def test_any_flipped_bit_of_the_body_is_noticed(position: int, bit: int) -> None:
    body = bytearray(urlencode(PARAMS).encode())
    body[position] ^= 1 << bit
    flipped = call(SIGNATURE, body=bytes(body))
    try:
        changed = sorted(flipped.form) != sorted(PARAMS)
    except PayloadError:
        changed = True
    # `%2B` and `%2b` are the same text: only what changes a value counts.
    if changed:
        refused(flipped)


@given(position=st.integers(0, len(SIGNATURE) - 1), bit=st.integers(0, 6))
def test_any_flipped_bit_of_the_signature_is_noticed(position: int, bit: int) -> None:
    raw = bytearray(SIGNATURE.encode())
    raw[position] ^= 1 << bit
    refused(call(raw.decode("latin-1")))


def test_a_call_without_signature_is_refused_with_the_header_named() -> None:
    assert "X-Twilio-Signature is missing" in refused(call(None))


def test_every_configured_token_is_tried() -> None:
    webhook.verify(call(SIGNATURE), {"auth_token": "old", "auth_token_secondary": "12345"})
    refused(call(SIGNATURE), {"auth_token": "old", "auth_token_secondary": "older"})


def test_a_get_call_is_signed_by_its_address_alone() -> None:
    url = f"{URL}&{urlencode(PARAMS)}"
    webhook.verify(call(sign(url, [], "12345"), [], url, method="GET"), TOKEN)
    refused(call(sign(url, [], "12345"), PARAMS, url, method="GET"))


def test_a_json_body_is_believed_through_its_hash_in_the_address() -> None:
    webhook.verify(call(JSON_SIGNATURE, url=JSON_URL, body=b'{"a":1}', headers=JSON), TOKEN)


@pytest.mark.parametrize("body", [b'{"a":2}', b'{"a":1} ', b"", b"a=1"])
@pytest.mark.parametrize("headers", [JSON, FORM])
def test_a_body_with_another_hash_is_refused(body: bytes, headers: dict[str, str]) -> None:
    assert "bodySHA256" in refused(call(JSON_SIGNATURE, url=JSON_URL, body=body, headers=headers))


def test_a_json_body_that_no_hash_covers_is_refused() -> None:
    bare = JSON_URL.partition("?")[0]
    refused(call(sign(bare, [], "12345"), url=bare, body=b'{"a":1}', headers=JSON))


SHARED = {**FORM, "x-twilio-webhooks-signature-settings": "key=webhooks_sharedkey_1,algorithm=HMAC_SHA256"}


def test_a_call_signed_with_a_shared_key_is_believed_by_that_key_alone() -> None:
    request = call(SHARED_KEY_SIGNATURE, headers=SHARED)
    webhook.verify(request, {"shared_key_secret": "12345"})
    webhook.verify(request, {"auth_token": "another", "shared_key_secret": "12345"})
    assert "compare the connection's shared_key_secret" in refused(request, {"shared_key_secret": "another"})
    assert "add its secret" in refused(request, TOKEN)


def test_a_call_never_chooses_the_weaker_way_for_a_key() -> None:
    # Signed by SHA-1 with the SharedKey's secret, whether or not the call says so.
    shared = {"shared_key_secret": "12345"}
    refused(call(SIGNATURE), shared)
    refused(call(SIGNATURE, headers=SHARED), shared)
    by_sha1 = {**FORM, "x-twilio-webhooks-signature-settings": "key=webhooks_sharedkey_1,algorithm=HMAC_SHA1"}
    assert "HMAC_SHA256 only" in refused(call(SIGNATURE, headers=by_sha1), {**TOKEN, **shared})
    # And by SHA-256 with the Auth Token.
    refused(call(SHARED_KEY_SIGNATURE), TOKEN)


def test_a_call_that_names_no_algorithm_is_signed_as_usual() -> None:
    bare = {**FORM, "x-twilio-webhooks-signature-settings": "key=webhooks_sharedkey_1"}
    webhook.verify(call(SIGNATURE, headers=bare), TOKEN)


def test_a_refusal_repeats_neither_body_nor_secret() -> None:
    text = refused(call("wrong"))
    assert "12345" not in text
    assert PERSON not in text


# -- what kind of call it is -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "topic"),
    [
        ([("MessageSid", "SM1"), ("SmsStatus", "received")], "message"),
        ([("MessageSid", "SM1"), ("SmsStatus", "received"), ("MessageStatus", "received")], "message"),
        ([("MessageSid", "SM1")], "message"),
        ([("MessageSid", "SM1"), ("MessageStatus", "sent"), ("SmsStatus", "sent")], "status"),
        ([("CallSid", "CA1")], ""),
    ],
)
def test_the_parameters_tell_the_topic(params: list[tuple[str, str]], topic: str) -> None:
    assert webhook.topic(call("-", params)) == topic


def test_an_inbound_message_is_answered_with_an_empty_document() -> None:
    reply = webhook.reply(call("-", [("MessageSid", "SM1"), ("SmsStatus", "received")]))
    assert (reply.status, reply.body, reply.content_type) == (200, b"<Response/>", "text/xml")


def test_a_status_is_answered_with_nothing() -> None:
    assert webhook.reply(call("-", [("MessageSid", "SM1"), ("MessageStatus", "sent")])).status == 204


def test_the_account_and_the_delivery_id_are_found() -> None:
    request = call("-", headers={**FORM, "i-twilio-idempotency-token": "token-1"})
    assert webhook.account(request) == "AC00000000000000000000000000000001"
    assert webhook.delivery_id(request) == "token-1"
    assert webhook.delivery_id(call("-")) is None


@pytest.mark.parametrize(("url", "headers"), [(URL, JSON), (JSON_URL, FORM), (JSON_URL, JSON)])
def test_a_json_call_is_one_of_event_streams(url: str, headers: dict[str, str]) -> None:
    request = call("-", url=url, body=b"[]", headers=headers)
    assert (webhook.topic(request), webhook.account(request), webhook.reply(request).status) == ("events", None, 204)


# -- which events come of it -------------------------------------------------------------------------------------------


def events(made: Delivery) -> dict[str, Event]:
    found = twilio.parse(made)
    assert found is not None
    return {event.type: event for event in found}


def received(delivery: DeliveryMaker, **params: str) -> Event:
    fields = {"MessageSid": "SM1", "From": PERSON, "To": "+14155550199", "SmsStatus": "received", "Body": ""} | params
    return events(delivery(urlencode(fields).encode()))["twilio.sms_received"]


def status_events(delivery: DeliveryMaker, status: str, **params: str) -> dict[str, Event]:
    fields = {"MessageSid": "SM2", "From": "+14155550199", "To": PERSON, "MessageStatus": status} | params
    return events(delivery(urlencode(fields).encode()))


def test_an_inbound_message_becomes_one_event_of_its_sender(
    delivery: DeliveryMaker, fixture_body: Callable[[str], bytes]
) -> None:
    found = events(delivery(fixture_body("sms_received.txt")))
    event = found.pop("twilio.sms_received")
    assert not found
    assert event.subject == Identity(phone=PERSON)
    assert event.fact_id == "sms_received:SM00000000000000000000000000000a01"
    assert event.data == {
        "message_id": "SM00000000000000000000000000000a01",
        "channel": "sms",
        "from_number": PERSON,
        "to_number": "+14155550199",
        "messaging_service_sid": "MG000000000000000000000000000000c3",
        "body": "yes ",
        "keyword": "YES",
        "opt_out": None,
        "num_media": 0,
        "media": [],
        "profile_name": None,
        "button_text": None,
        "button_payload": None,
        "sent_at": None,
    }


@pytest.mark.parametrize(
    ("body", "keyword"),
    [
        ("yes", "YES"),
        (" Yes\n", "YES"),
        ("yes please", "YES"),
        ("Yes, please!", "YES"),
        ("«OUI»", "OUI"),
        ("ＹＥＳ", "YES"),
        ("evet.", "EVET"),
        ("👍 great", "👍"),
        ("", None),
        ("  ", None),
    ],
)
def test_the_keyword_is_the_first_word_in_one_spelling(delivery: DeliveryMaker, body: str, keyword: str | None) -> None:
    assert received(delivery, Body=body).data["keyword"] == keyword


@given(word=st.sampled_from(sorted(STOP_WORDS)), data=st.data())
def test_a_stop_word_blocks_the_address_in_any_case(word: str, data: st.DataObject) -> None:
    cased = "".join(data.draw(st.sampled_from([letter.lower(), letter])) for letter in word)
    body = urlencode({"MessageSid": "SM1", "From": PERSON, "To": "+14155550199", "Body": f" {cased} "}).encode()
    request = InboundRequest("POST", URL, {}, body)
    event = events(Delivery(request, "twilio", "texts", "AC1", webhook.topic(request), 0))["twilio.sms_received"]
    assert event.consents == (ConsentSignal("sms", PERSON, ConsentState.BLOCKED, "stop"),)


@pytest.mark.parametrize("word", sorted(START_WORDS))
def test_a_start_word_grants(delivery: DeliveryMaker, word: str) -> None:
    assert received(delivery, Body=word).consents == (ConsentSignal("sms", PERSON, ConsentState.GRANTED, "start"),)


@pytest.mark.parametrize("body", ["please stop", "STOP it", "yes", "HELP", "stopp"])
def test_other_texts_say_nothing_about_consent(delivery: DeliveryMaker, body: str) -> None:
    assert received(delivery, Body=body).consents == ()


@pytest.mark.parametrize(
    ("body", "said", "state"),
    [
        ("dur", "STOP", ConsentState.BLOCKED),
        ("yes", "START", ConsentState.GRANTED),
        ("stop", "Other", ConsentState.BLOCKED),
    ],
)
def test_what_twilio_took_the_message_for_counts(
    delivery: DeliveryMaker, body: str, said: str, state: ConsentState
) -> None:
    (signal,) = received(delivery, Body=body, OptOutType=said).consents
    assert signal.state == state


def test_a_whatsapp_message_is_of_another_channel(delivery: DeliveryMaker) -> None:
    event = received(delivery, From=f"whatsapp:{PERSON}", To="whatsapp:+14155550199", Body="stop")
    assert (event.data["channel"], event.data["from_number"]) == ("whatsapp", PERSON)
    assert event.subject == Identity(phone=PERSON)
    assert event.consents == (ConsentSignal("whatsapp", PERSON, ConsentState.BLOCKED, "stop"),)


@pytest.mark.parametrize(
    ("status", "types"),
    [
        ("sent", {"twilio.sms_status", "twilio.sms_sent"}),
        ("delivered", {"twilio.sms_status", "twilio.sms_delivered"}),
        ("failed", {"twilio.sms_status", "twilio.sms_failed"}),
        ("undelivered", {"twilio.sms_status", "twilio.sms_failed"}),
        ("a_new_status", {"twilio.sms_status"}),
    ],
)
def test_a_status_becomes_the_events_it_stands_for(delivery: DeliveryMaker, status: str, types: set[str]) -> None:
    found = status_events(delivery, status, ErrorCode="30003" if types & {"twilio.sms_failed"} else "")
    assert set(found) == types
    for event in found.values():
        assert event.subject == Identity(phone=PERSON)
        assert event.fact_id.endswith(f":SM2:{status}")
        assert event.consents == ()


def test_a_failure_carries_its_code(delivery: DeliveryMaker, fixture_body: Callable[[str], bytes]) -> None:
    data = events(delivery(fixture_body("sms_failed.txt")))["twilio.sms_failed"].data
    assert (data["status"], data["error_code"], data["final"]) == ("undelivered", "30003", True)


@pytest.mark.parametrize(
    ("code", "reason", "permanent"),
    [
        ("21211", "no_such_number", True),
        ("21610", "opted_out", True),
        ("21612", "not_reachable", True),
        ("21614", "landline", True),
        ("30001", "queue_full", False),
        ("30002", "account_suspended", False),
        ("30003", "unreachable_now", False),
        ("30004", "blocked", True),
        ("30005", "no_such_number", True),
        ("30006", "landline", True),
        ("30007", "filtered", False),
        ("30008", "unknown", False),
        ("30034", "not_registered", False),
        ("30450", "pumping", False),
        ("30610", "quiet_hours", False),
        ("30640", "litigator", True),
        ("63003", "not_on_whatsapp", True),
        ("63016", "template_needed", False),
        ("63018", "too_fast", False),
        ("63024", "not_on_whatsapp", True),
        ("39999", "other", False),
        ("", "other", False),
    ],
)
def test_a_failure_says_in_a_word_what_can_be_done(
    delivery: DeliveryMaker, code: str, reason: str, permanent: bool
) -> None:
    data = status_events(delivery, "undelivered", ErrorCode=code)["twilio.sms_failed"].data
    assert (data["reason"], data["permanent"]) == (reason, permanent)


def test_what_did_not_fail_has_no_reason(delivery: DeliveryMaker) -> None:
    data = status_events(delivery, "delivered")["twilio.sms_status"].data
    assert (data["reason"], data["permanent"]) == (None, False)


def test_a_failure_by_opt_out_blocks_the_address_once(delivery: DeliveryMaker) -> None:
    found = status_events(delivery, "failed", ErrorCode="21610")
    signals = [signal for event in found.values() for signal in event.consents]
    assert signals == [ConsentSignal("sms", PERSON, ConsentState.BLOCKED, "stop")]


def test_the_reference_comes_from_the_address_and_never_from_the_body(delivery: DeliveryMaker) -> None:
    body = urlencode({"MessageSid": "SM2", "To": PERSON, "MessageStatus": "sent", "reference": "forged"}).encode()
    ours = events(delivery(body, url="https://hub.example.com/in?reference=run-1"))["twilio.sms_status"]
    foreign = events(delivery(body))["twilio.sms_status"]
    assert ours.correlate == {"message_id": "SM2", "reference": "run-1"}
    assert foreign.correlate == {"message_id": "SM2"}


@pytest.mark.parametrize("missing", ["MessageSid", "From", "To"])
def test_a_call_without_a_needed_parameter_names_it(delivery: DeliveryMaker, missing: str) -> None:
    fields = {"MessageSid": "SM1", "From": PERSON, "To": "+14155550199", "SmsStatus": "received"}
    del fields[missing]
    with pytest.raises(PayloadError, match=missing):
        twilio.parse(delivery(urlencode(fields).encode()))


def test_a_call_of_another_product_is_not_ours(delivery: DeliveryMaker) -> None:
    assert twilio.parse(delivery(b"CallSid=CA1&AccountSid=AC1")) is None


def test_every_status_that_twilio_documents_has_a_rank(facts: dict[str, Any]) -> None:
    inbound = {"receiving", "received"}
    assert set(facts["enums"]["message_status"]) - inbound == set(STATUS_RANK)


# -- MMS, WhatsApp, opt-outs, clicks, calls ----------------------------------------------------------------------------


def test_files_of_a_message_are_told_with_their_types(
    delivery: DeliveryMaker, fixture_body: Callable[[str], bytes]
) -> None:
    found = events(delivery(fixture_body("mms_received.txt")))
    assert set(found) == {"twilio.sms_received", "twilio.mms_received"}
    media = found["twilio.mms_received"].data["media"]
    assert [one["content_type"] for one in media] == ["image/jpeg", "image/png"]
    assert media[0]["url"].endswith("/Media/ME00000000000000000000000000000001")


def test_a_whatsapp_message_says_who_pressed_what(
    delivery: DeliveryMaker, fixture_body: Callable[[str], bytes]
) -> None:
    found = events(delivery(fixture_body("whatsapp_received.txt")))
    assert set(found) == {"twilio.sms_received", "twilio.whatsapp_received"}
    event = found["twilio.whatsapp_received"]
    told = {name: event.data[name] for name in ("keyword", "profile_name", "button_text", "button_payload")}
    assert told == {
        "keyword": "YES",
        "profile_name": "Jane",
        "button_text": "Yes, please",
        "button_payload": "confirm",
    }
    assert event.correlate == {"from_number": PERSON, "to_number": "+14155550199", "keyword": "YES"}


def test_files_by_whatsapp_are_no_mms(delivery: DeliveryMaker) -> None:
    fields = {"MessageSid": "MM1", "From": f"whatsapp:{PERSON}", "To": "whatsapp:+14155550199", "NumMedia": "1"}
    body = urlencode({**fields, "SmsStatus": "received", "MediaUrl0": "https://x.example/1", "MediaContentType0": ""})
    found = events(delivery(body.encode()))
    assert set(found) == {"twilio.sms_received", "twilio.whatsapp_received"}


@pytest.mark.parametrize(
    ("name", "other", "state"),
    [("opted_out", "opted_in", ConsentState.BLOCKED), ("opted_in", "opted_out", ConsentState.GRANTED)],
)
def test_opting_out_and_in_are_told_and_count_once(
    name: str, other: str, state: ConsentState, delivery: DeliveryMaker, fixture_body: Callable[[str], bytes]
) -> None:
    found = events(delivery(fixture_body(f"{name}.txt")))
    assert f"twilio.{name}" in found
    assert f"twilio.{other}" not in found
    assert [signal.state for event in found.values() for signal in event.consents] == [state]


def test_a_person_reads_a_whatsapp_message(delivery: DeliveryMaker, fixture_body: Callable[[str], bytes]) -> None:
    found = events(delivery(fixture_body("whatsapp_read.txt")))
    assert set(found) == {"twilio.sms_status", "twilio.whatsapp_read"}
    assert (found["twilio.whatsapp_read"].data["channel"], found["twilio.whatsapp_read"].data["final"]) == (
        "whatsapp",
        True,
    )


CLICK: dict[str, Any] = json.loads((FIXTURES / "link_clicked.delivery.json").read_text())["json"][0]


def clicks(told: object) -> list[Event]:
    body = json.dumps(told).encode()
    request = InboundRequest("POST", f"{URL}&bodySHA256={sha256(body).hexdigest()}", JSON, body)
    return twilio.parse(Delivery(request, "twilio", "texts", "AC1", webhook.topic(request), 0)) or []


def test_a_click_is_told_with_its_link_and_message() -> None:
    [event] = clicks([CLICK])
    assert event.fact_id == "link_clicked:NO000000000000000000000000000000f1"
    assert (event.subject, event.account) == (Identity(phone=PERSON), "AC00000000000000000000000000000001")
    assert event.data["link"] == "https://shop.example.com/carts/77?step=pay"
    assert event.correlate["message_id"] == "SM00000000000000000000000000000b02"
    assert event.occurred_at_ms == 1_795_343_460_000


def test_clicks_come_many_at_once_and_among_other_events() -> None:
    other = {**CLICK, "type": "com.twilio.messaging.message.sent", "data": {}}
    again = {**CLICK, "id": "NO2", "data": {**CLICK["data"], "to": f"whatsapp:{PERSON}"}}
    found = clicks([CLICK, other, again, "x"])
    assert [event.data["channel"] for event in found] == ["sms", "whatsapp"]
    assert clicks(CLICK) == found[:1]
    assert clicks({}) == []


@pytest.mark.parametrize("missing", ["message_sid", "to", "link", "click_time", "account_sid"])
def test_a_click_without_what_is_needed_is_unreadable_and_says_no_values(missing: str) -> None:
    data = {name: value for name, value in CLICK["data"].items() if name != missing}
    with pytest.raises(PayloadError) as caught:
        clicks([{**CLICK, "data": data}])
    assert missing in str(caught.value)
    assert PERSON not in str(caught.value)


def test_a_call_is_read_as_twilio_lists_it(fixture_body: Callable[[str], bytes]) -> None:
    request = InboundRequest("POST", URL, JSON, fixture_body("call_completed.json"))
    trigger = twilio.triggers["call_completed"]
    assert trigger.parse
    [call] = trigger.parse(Delivery(request, "twilio", "texts", "AC1", "", 0))
    event = trigger.event(call, 0)
    assert (event.data["duration_s"], event.subject) == (95, Identity(phone=PERSON))
    assert event.occurred_at_ms == 1_795_341_695_000
