"""The sandbox behaves as Twilio does, by the witness of Twilio's own Python package."""

from __future__ import annotations

import base64
import json
import logging
import re
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlencode

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import MultiDict
from twilio.base.exceptions import TwilioRestException
from twilio.http import AsyncHttpClient
from twilio.http.response import Response
from twilio.request_validator import RequestValidator
from twilio.rest import Client

from hub import Delivery, InboundRequest, SignatureError
from hub.clock import Clock
from hub.testing.sandbox import load_sandbox
from hub_twilio import twilio
from hub_twilio.sandbox import Template, TwilioSandbox
from hub_twilio.webhook import TwilioWebhook, sign

SENDER = "+14155550199"
SERVICE = "MG000000000000000000000000000000c3"
PERSON = "+14155550100"

webhook = TwilioWebhook()


class SandboxHttpClient(AsyncHttpClient):
    """Leads the calls of Twilio's own client to the sandbox; its own transport uses deprecated parts of aiohttp."""

    def __init__(self, sandbox_url: str, session: aiohttp.ClientSession) -> None:
        super().__init__(logging.getLogger(__name__), True)
        self._sandbox_url, self._session = sandbox_url, session

    async def request(
        self,
        method: str,
        uri: str,
        params: dict[str, object] | None = None,
        data: dict[str, object] | None = None,
        headers: dict[str, str] | None = None,
        auth: tuple[str, str] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109  (the package's signature)
        allow_redirects: bool = False,
    ) -> Response:
        led = re.sub(r"https://\w+\.twilio\.com", f"{self._sandbox_url}/twilio", uri)
        given = {**(headers or {}), **(basic(*auth) if auth else {})}
        body = urlencode(data or {}, doseq=True).encode() if method == "POST" else None
        query = {name: str(value) for name, value in (params or {}).items()}
        async with self._session.request(method, led, params=query, data=body, headers=given) as answer:
            return Response(answer.status, await answer.text(), answer.headers)


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}


@pytest.fixture
async def client(sandbox_url: str, account: str, token: str) -> AsyncIterator[Client]:
    async with aiohttp.ClientSession() as session:
        yield Client(account, token, http_client=SandboxHttpClient(sandbox_url, session))


async def refusal(client: Client, **message: Any) -> tuple[int, int | None]:
    with pytest.raises(TwilioRestException) as caught:
        await client.messages.create_async(**message)
    return caught.value.status, caught.value.code


# -- signatures, against the official validator ------------------------------------------------------------------------


async def test_the_official_validator_believes_the_sandbox(
    listener: Any, sandbox: TwilioSandbox, client: Client, account: str, token: str
) -> None:
    callback = f"{listener.address}?reference=run-1#rc=3&rp=ct,rt,5xx"
    await client.messages.create_async(to=PERSON, from_=SENDER, body="Hi", status_callback=callback)
    await sandbox.settle()
    await sandbox.text(listener.address, account, PERSON, SENDER, "Stop ")
    assert len(listener.calls) == 3
    for call in listener.calls:
        signature = call.headers["x-twilio-signature"]
        assert RequestValidator(token).validate(call.url, MultiDict(call.form), signature)
        webhook.verify(call, {"auth_token": token})
        with pytest.raises(SignatureError):
            webhook.verify(call, {"auth_token": "another"})


PAIRS = st.lists(st.tuples(st.text(min_size=1, max_size=8), st.text(max_size=12)), max_size=8)


@given(params=PAIRS, path=st.text("abc/", max_size=6), port=st.sampled_from(["", ":443", ":8443"]), token=st.text())
def test_a_request_signed_by_the_official_validator_is_believed(
    params: list[tuple[str, str]], path: str, port: str, token: str
) -> None:
    url = f"https://hub.example.com{port}/{path}?reference=run-1"
    signature = RequestValidator(token).compute_signature(url, MultiDict(params))
    request = InboundRequest("POST", url, {"x-twilio-signature": signature}, urlencode(params).encode())
    webhook.verify(request, {"auth_token": token})
    assert sign(url, params, token) == signature


@given(value=st.dictionaries(st.text(), st.integers()))
def test_json_signed_by_the_official_validator_is_believed(value: dict[str, int]) -> None:
    validator, body = RequestValidator("12345"), json.dumps(value)
    url = f"https://hub.example.com/in?bodySHA256={validator.compute_hash(body)}"
    signature = validator.compute_signature(url, {})
    assert validator.validate(url, body, signature)
    request = InboundRequest("POST", url, {"x-twilio-signature": signature}, body.encode())
    webhook.verify(request, {"auth_token": "12345"})


# -- the API, through the official client ------------------------------------------------------------------------------


async def test_the_official_client_sends_and_reads_a_message(sandbox: TwilioSandbox, client: Client) -> None:
    sent = await client.messages.create_async(to=PERSON, from_=SENDER, body="Hi Jane")
    await sandbox.settle()
    read = await client.messages(sent.sid).fetch_async()
    assert (sent.status, sent.direction, sent.date_sent) == ("queued", "outbound-api", None)
    assert (read.status, read.body, read.from_, read.to) == ("delivered", "Hi Jane", SENDER, PERSON)
    assert read.date_created == sent.date_created
    assert read.date_sent is not None
    (entry,) = sandbox.log
    assert (entry.operation, entry.data["to"], entry.data["sid"]) == ("send_sms", PERSON, sent.sid)


async def test_a_service_chooses_its_sender_after_accepting(sandbox: TwilioSandbox, client: Client) -> None:
    sandbox.pools[SERVICE] = SENDER
    sent = await client.messages.create_async(to=PERSON, messaging_service_sid=SERVICE, body="x" * 200)
    await sandbox.settle()
    read = await client.messages(sent.sid).fetch_async()
    assert (sent.status, sent.from_, sent.num_segments) == ("accepted", None, "0")
    assert (read.from_, read.num_segments) == (SENDER, "2")


async def test_the_official_client_lists_newest_first_over_pages(client: Client) -> None:
    for number in range(5):
        await client.messages.create_async(to=PERSON, from_=SENDER, body=f"{number}")
    await client.messages.create_async(to="+14155550101", from_=SENDER, body="other")
    found = await client.messages.list_async(to=PERSON, page_size=2)
    assert [message.body for message in found] == ["4", "3", "2", "1", "0"]


async def test_the_official_client_reads_the_account(client: Client, account: str) -> None:
    found = await client.api.accounts(account).fetch_async()
    assert (found.sid, found.friendly_name, found.status) == (account, "Sandbox", "active")


async def test_a_message_looks_as_twilios_document_says(
    client: Client, sandbox_url: str, account: str, token: str, facts: dict[str, Any]
) -> None:
    sent = await client.messages.create_async(to=PERSON, from_=SENDER, body="Hi")
    address, headers = f"{sandbox_url}/twilio{sent.uri}", basic(account, token)
    async with aiohttp.ClientSession() as session, session.get(address, headers=headers) as answer:
        shown = await answer.json()
    assert set(shown) == set(facts["resources"]["message"])
    assert shown["status"] in facts["enums"]["message_status"]


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({"to": "", "from_": SENDER, "body": "Hi"}, 21604),
        ({"to": "banana", "from_": SENDER, "body": "Hi"}, 21211),
        ({"to": PERSON, "from_": SENDER}, 21602),
        ({"to": PERSON, "body": "Hi"}, 21603),
        ({"to": PERSON, "from_": SENDER, "body": "x" * 1601}, 21617),
        ({"to": PERSON, "from_": f"whatsapp:{SENDER}", "body": "Hi"}, 21910),
        ({"to": PERSON, "from_": SENDER, "body": "Hi", "status_callback": "ftp://x"}, 21609),
        ({"to": PERSON, "from_": SENDER, "body": "Hi", "status_callback": "https://a_b.example.com/"}, 21609),
    ],
)
async def test_what_twilio_requires_is_required(message: dict[str, str], code: int, client: Client) -> None:
    assert await refusal(client, **message) == (400, code)


async def test_wrong_credentials_are_refused(sandbox_url: str, account: str) -> None:
    async with aiohttp.ClientSession() as session:
        client = Client(account, "wrong", http_client=SandboxHttpClient(sandbox_url, session))
        assert await refusal(client, to=PERSON, from_=SENDER, body="Hi") == (401, 20003)


async def test_an_unknown_message_is_not_found(client: Client) -> None:
    with pytest.raises(TwilioRestException) as caught:
        await client.messages("SM00000000000000000000000000000000").fetch_async()
    assert (caught.value.status, caught.value.code) == (404, 20404)


async def test_too_many_calls_are_throttled(sandbox: TwilioSandbox, client: Client) -> None:
    sandbox.throttle_until_ms = sandbox.clock.now_ms() + 60_000
    assert await refusal(client, to=PERSON, from_=SENDER, body="Hi") == (429, 20429)


async def test_opting_out_holds_for_the_sender_only_and_until_start(
    listener: Any, sandbox: TwilioSandbox, client: Client, account: str
) -> None:
    await sandbox.text(listener.address, account, PERSON, SENDER, "unsubscribe")
    assert await refusal(client, to=PERSON, from_=SENDER, body="Hi") == (400, 21610)
    await client.messages.create_async(to=PERSON, from_="+14155550198", body="Hi")
    await sandbox.text(listener.address, account, PERSON, SENDER, "yes please")
    assert await refusal(client, to=PERSON, from_=SENDER, body="Hi") == (400, 21610)
    await sandbox.text(listener.address, account, PERSON, SENDER, "unstop")
    await client.messages.create_async(to=PERSON, from_=SENDER, body="Hi")


# -- what it tells -----------------------------------------------------------------------------------------------------


async def test_a_number_can_be_made_to_fail(listener: Any, sandbox: TwilioSandbox, client: Client) -> None:
    sandbox.undeliverable = {PERSON: 30003, "+14155550101": 21610}
    for to in sandbox.undeliverable:
        await client.messages.create_async(to=to, from_=SENDER, body="Hi", status_callback=listener.address)
        await sandbox.settle()
    forms = [dict(call.form) for call in listener.calls]
    assert [(form["MessageStatus"], form.get("ErrorCode")) for form in forms] == [
        ("sent", None),
        ("undelivered", "30003"),
        ("sent", None),
        ("failed", "21610"),
    ]


async def test_a_callback_is_repeated_as_its_address_asks(
    listener: Any, sandbox: TwilioSandbox, client: Client
) -> None:
    listener.answers = [500, 503, 204]
    callback = f"{listener.address}#rc=3&rp=ct,rt,5xx"
    await client.messages.create_async(to=PERSON, from_=SENDER, body="Hi", status_callback=callback)
    await sandbox.settle()
    tokens = [call.headers["i-twilio-idempotency-token"] for call in listener.calls]
    assert len(tokens) == 4
    assert len(set(tokens[:3])) == 1
    assert tokens[3] != tokens[0]


async def test_a_callback_is_not_repeated_unasked(listener: Any, sandbox: TwilioSandbox, client: Client) -> None:
    listener.answers = [500]
    await client.messages.create_async(to=PERSON, from_=SENDER, body="Hi", status_callback=listener.address)
    await sandbox.settle()
    assert len(listener.calls) == 2


@pytest.mark.parametrize(("body", "meaning"), [("Stop", "STOP"), ("start", "START"), ("info", "HELP"), ("hi", None)])
async def test_a_service_says_what_it_took_a_message_for(
    body: str, meaning: str | None, listener: Any, sandbox: TwilioSandbox, account: str
) -> None:
    sandbox.pools[SERVICE] = SENDER
    texted = await sandbox.text(listener.address, account, PERSON, SENDER, body)
    form = dict(listener.calls[0].form)
    assert texted == (form["MessageSid"], 204)
    assert (form.get("OptOutType"), form["MessagingServiceSid"], form["ToCity"]) == (meaning, SERVICE, "")


async def test_a_person_can_text_over_http(listener: Any, sandbox_url: str, account: str, unused_tcp_port: int) -> None:
    fields = {"account": account, "from_number": PERSON, "to_number": SENDER, "body": "Hi & bye"}
    texts: Sequence[dict[str, str]] = [
        {"address": listener.address, **fields},
        {"address": f"http://127.0.0.1:{unused_tcp_port}/in", **fields},
        fields,
    ]
    async with aiohttp.ClientSession() as session:
        found = []
        for text in texts:
            async with session.post(f"{sandbox_url}/twilio/_sandbox/text", json=text) as answer:
                found.append((answer.status, (await answer.json()).get("status")))
    assert found == [(200, 204), (200, 0), (400, None)]
    assert parse_qs(listener.calls[0].body.decode())["Body"] == ["Hi & bye"]


def test_the_connector_names_its_sandbox() -> None:
    assert isinstance(load_sandbox(twilio, Clock()), TwilioSandbox)


# -- more than text, through the official client -----------------------------------------------------------------------


async def test_files_are_kept_and_described(client: Client) -> None:
    sent = await client.messages.create_async(to=PERSON, from_=SENDER, media_url=["https://example.com/a.jpg"] * 2)
    found = await client.messages(sent.sid).media.list_async()
    assert (sent.sid[:2], sent.num_media) == ("MM", "2")
    assert [one.content_type for one in found] == ["image/jpeg", "image/jpeg"]


async def test_the_official_client_schedules_and_cancels(sandbox: TwilioSandbox, client: Client) -> None:
    given = {"to": PERSON, "messaging_service_sid": SERVICE, "body": "Later", "schedule_type": "fixed"}
    sent = await client.messages.create_async(**given, send_at=datetime.now(UTC) + timedelta(hours=1))
    cancelled = await client.messages(sent.sid).update_async(status="canceled")
    assert (sent.status, cancelled.status) == ("scheduled", "canceled")
    with pytest.raises(TwilioRestException) as caught:
        await client.messages(sent.sid).update_async(status="canceled")
    assert caught.value.code == 30409
    assert await sandbox.send_due() == 0


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({"from_": SENDER, "send_at": "2026-11-22T12:00:00Z"}, 35118),
        ({"messaging_service_sid": SERVICE}, 35111),
        ({"messaging_service_sid": SERVICE, "send_at": "2020-01-01T00:00:00Z"}, 35114),
    ],
)
async def test_what_twilio_requires_of_schedules_is_required(
    message: dict[str, str], code: int, client: Client
) -> None:
    assert await refusal(client, to=PERSON, body="Later", schedule_type="fixed", **message) == (400, code)


@pytest.mark.parametrize(
    ("message", "refused"),
    [
        ({"media_url": ["picture.jpg"]}, (400, 21620)),
        ({"content_sid": f"HX{'0' * 32}"}, (404, 20404)),
    ],
)
async def test_content_that_cannot_be_had_is_refused(
    message: dict[str, Any], refused: tuple[int, int], client: Client
) -> None:
    assert await refusal(client, to=PERSON, from_=SENDER, **message) == refused


async def test_templates_are_listed_as_the_official_client_lists_them(
    sandbox: TwilioSandbox, client: Client, account: str
) -> None:
    found = sandbox.account(account)
    for n in range(3):
        found.templates[f"HX{n}"] = Template(sid=f"HX{n}", account=account, name=f"Template {n}", body="Hello {{1}}")
    listed = await client.content.v1.contents.list_async(page_size=2)
    assert [(one.sid, one.friendly_name, one.language) for one in listed] == [
        (f"HX{n}", f"Template {n}", "en") for n in range(3)
    ]


async def test_the_official_client_sets_addresses_and_reads_numbers_and_services(
    sandbox: TwilioSandbox, client: Client
) -> None:
    [number] = await client.incoming_phone_numbers.list_async(phone_number=SENDER)
    await client.incoming_phone_numbers(number.sid).update_async(
        sms_url="https://hub.example.com/in", sms_method="POST"
    )
    service = await client.messaging.v1.services(SERVICE).update_async(inbound_request_url="https://hub.example.com/in")
    [again] = await client.incoming_phone_numbers.list_async()
    assert (number.phone_number, number.sms_url) == (SENDER, "")
    assert (again.sms_url, service.inbound_request_url) == ("https://hub.example.com/in", "https://hub.example.com/in")
    assert [one.sid for one in await client.messaging.v1.services.list_async()] == [SERVICE]


async def test_the_official_client_looks_numbers_up(sandbox: TwilioSandbox, client: Client) -> None:
    sandbox.landlines.add(SENDER)
    found = await client.lookups.v2.phone_numbers(SENDER).fetch_async(fields="line_type_intelligence")
    plain = await client.lookups.v2.phone_numbers("banana").fetch_async()
    assert (found.valid, found.country_code) == (True, "US")
    assert found.line_type_intelligence["type"] == "landline"
    assert (plain.valid, plain.validation_errors, plain.line_type_intelligence) == (False, ["NOT_A_NUMBER"], None)


async def test_the_official_client_lists_calls_of_a_day(sandbox: TwilioSandbox, client: Client, account: str) -> None:
    sandbox.called(account, PERSON, SENDER)
    sandbox.age(account, 3 * 86_400_000)
    recent = sandbox.called(account, PERSON, SENDER, seconds=95)
    since = datetime.now(UTC) - timedelta(days=1)
    [found] = await client.calls.list_async(status="completed", end_time_after=since)
    assert (found.sid, found.duration, found.direction) == (recent.sid, "95", "inbound")


async def test_resources_look_as_twilios_documents_say(
    sandbox: TwilioSandbox, client: Client, account: str, facts: dict[str, Any]
) -> None:
    made = sandbox.account(account)
    await sandbox.text("", account, PERSON, SENDER, "Look", [("https://example.com/a.jpg", "image/jpeg")])
    (message,) = made.messages.values()
    shown = {
        "number": made.number(SENDER).shown(),
        "service": made.service(SERVICE).shown(),
        "call": sandbox.called(account, PERSON, SENDER).shown(),
        "media": message.media_shown()[0],
    }
    for kind, one in shown.items():
        assert set(one) <= set(facts["resources"][kind])
    assert shown["call"]["status"] in facts["enums"]["call_status"]


async def test_a_key_opens_what_its_account_has(sandbox: TwilioSandbox, sandbox_url: str, account: str) -> None:
    secret = sandbox.secret(account, "api_key_secret")
    sandbox.account(account).service(SERVICE)
    async with aiohttp.ClientSession() as session:
        transport = SandboxHttpClient(sandbox_url, session)
        keyed = Client(f"SK{'0' * 32}", secret, account, http_client=transport)
        assert [one.sid for one in await keyed.messaging.v1.services.list_async()] == [SERVICE]
        wrong = Client(f"SK{'0' * 32}", "wrong", account, http_client=transport)
        with pytest.raises(TwilioRestException) as caught:
            await wrong.messaging.v1.services(SERVICE).fetch_async()
    assert (caught.value.status, caught.value.code) == (401, 20003)


# -- calls that go wrong -----------------------------------------------------------------------------------------------


async def test_calls_come_again_twice_turned_round_or_not_at_all(
    listener: Any, sandbox: TwilioSandbox, client: Client
) -> None:
    async def told(**faults: Any) -> list[tuple[str, str]]:
        listener.calls.clear()
        for name, value in {"redeliver": 0, "duplicate": 0, "lose": 0, "reorder": False, **faults}.items():
            setattr(sandbox.faults, name, value)
        await client.messages.create_async(to=PERSON, from_=SENDER, body="Hi", status_callback=listener.address)
        await sandbox.settle()
        return [
            (dict(call.form)["MessageStatus"], call.headers["i-twilio-idempotency-token"]) for call in listener.calls
        ]

    again = await told(redeliver=1)
    assert [status for status, _ in again] == ["sent", "sent", "delivered", "delivered"]
    assert len({token for _, token in again}) == 2
    twice = await told(duplicate=1)
    assert [status for status, _ in twice] == ["sent", "sent", "delivered", "delivered"]
    assert len({token for _, token in twice}) == 4
    assert [status for status, _ in await told(reorder=True)] == ["delivered", "sent"]
    assert [status for status, _ in await told(lose=1)] == ["delivered"]


async def test_a_click_is_told_as_the_official_validator_expects(
    listener: Any, sandbox: TwilioSandbox, client: Client, account: str, token: str
) -> None:
    sent = await client.messages.create_async(
        to=PERSON, messaging_service_sid=SERVICE, body="Pay: https://shop.example.com/77", shorten_urls=True
    )
    await sandbox.settle()
    assert await sandbox.click(f"{listener.address}?tenant=7", account, sent.sid) == 204
    [call] = listener.calls
    assert RequestValidator(token).validate(call.url, call.body.decode(), call.headers["x-twilio-signature"])
    webhook.verify(call, {"auth_token": token})
    [event] = twilio.parse(Delivery(call, "twilio", "texts", account, webhook.topic(call), 0)) or []
    assert (event.type, event.data["link"]) == ("twilio.link_clicked", "https://shop.example.com/77")
    assert event.data["message_id"] == sent.sid


async def test_what_happens_can_be_had_by_hand(
    listener: Any, sandbox: TwilioSandbox, sandbox_url: str, account: str, client: Client
) -> None:
    sent = await client.messages.create_async(
        to=PERSON, messaging_service_sid=SERVICE, body="https://shop.example.com/77", shorten_urls=True
    )
    asked: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
        ("click", {"address": listener.address, "account": account, "sid": sent.sid}, {"status": 204}),
        ("due", {}, {"sent": 0}),
        ("telling", {"redeliver": 2}, {"redeliver": 2, "duplicate": 0, "lose": 0, "reorder": False}),
    ]
    async with aiohttp.ClientSession() as session:
        for what, given, answer in asked:
            async with session.post(f"{sandbox_url}/twilio/_sandbox/{what}", json=given) as response:
                assert (response.status, await response.json()) == (200, answer)
        async with session.post(
            f"{sandbox_url}/twilio/_sandbox/call", json={"account": account, "from_number": PERSON, "to": SENDER}
        ) as response:
            assert (await response.json())["sid"] == sandbox.account(account).calls[0].sid
        for what in ("click", "call", "telling"):
            async with session.post(f"{sandbox_url}/twilio/_sandbox/{what}", json={"banana": 1}) as response:
                assert response.status == 400
