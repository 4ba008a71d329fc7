"""The sandboxes behave as the vendor does: asked by the vendor's own clients, and over the hub's own door."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import aiohttp
import mailchimp_marketing
import mailchimp_transactional
import pytest
from mailchimp_marketing.api_client import ApiClientError
from mailchimp_transactional.api_client import ApiClientError as TransactionalError

from hub.clock import Clock, to_datetime
from hub_mailchimp import mailchimp
from hub_mailchimp.sandbox.hooks import headers_of
from hub_mailchimp.sandbox.marketing import DEFAULT_LIST, MOST_AT_ONCE, MailchimpSandbox
from hub_mailchimp.sandbox.state import Store, hashed
from hub_mailchimp.sandbox.transactional import MandrillSandbox

from .conftest import ContextMaker, Listener, facts

ADA = "ada@example.test"


# -- Marketing, asked by mailchimp-marketing ---------------------------------------------------------------------------


@pytest.fixture
def client(marketing: MailchimpSandbox, sandbox_url: str) -> Callable[..., Any]:
    """Asks the sandbox by the vendor's client, in a thread of its own."""
    made = mailchimp_marketing.Client({"api_key": f"{marketing.secret('main', 'api_key')}-us0"})
    _lead_to(made, f"{sandbox_url}/mailchimp/3.0")

    async def ask(area: str, call: str, *given: Any, **more: Any) -> Any:
        return await asyncio.to_thread(getattr(getattr(made, area), call), *given, **more)

    return ask


def _lead_to(made: Any, host: str) -> None:
    """The vendor's client sends its calls to the sandbox; its host cannot be configured."""
    for area in vars(made).values():
        inner = getattr(area, "api_client", area)
        if hasattr(inner, "host"):
            inner.host = host
            inner.server = ""


async def test_a_wrong_key_is_refused(client: Callable[..., Any], sandbox_url: str) -> None:
    stranger = mailchimp_marketing.Client({"api_key": f"{'0' * 32}-us0"})
    _lead_to(stranger, f"{sandbox_url}/mailchimp/3.0")
    with pytest.raises(ApiClientError) as caught:
        await asyncio.to_thread(stranger.ping.get)
    assert caught.value.status_code == 401
    assert "API Key Invalid" in str(caught.value.text)
    assert (await client("ping", "get"))["health_status"] == "Everything's Chimpy!"
    assert (await client("root", "get_root"))["account_id"] == "main"


async def test_members_live_as_at_the_vendor(client: Callable[..., Any], marketing: MailchimpSandbox) -> None:
    body = {"email_address": ADA, "status_if_new": "subscribed", "merge_fields": {"FNAME": "Ada"}}
    made = await client("lists", "set_list_member", DEFAULT_LIST, hashed(ADA), body)
    assert (made["id"], made["status"]) == (hashed(ADA), "subscribed")
    await client(
        "lists", "update_list_member_tags", DEFAULT_LIST, hashed(ADA), {"tags": [{"name": "vip", "status": "active"}]}
    )
    assert (await client("lists", "get_list_member", DEFAULT_LIST, hashed(ADA)))["tags_count"] == 1
    assert [tag["name"] for tag in (await client("lists", "tag_search", DEFAULT_LIST, name="VI"))["tags"]] == ["vip"]
    await client("lists", "update_list_member", DEFAULT_LIST, hashed(ADA), {"status": "unsubscribed"})
    with pytest.raises(ApiClientError) as caught:
        await client("lists", "set_list_member", DEFAULT_LIST, hashed(ADA), {**body, "status": "subscribed"})
    assert "Member In Compliance State" in str(caught.value.text)
    await client("lists", "delete_list_member", DEFAULT_LIST, hashed(ADA))
    with pytest.raises(ApiClientError) as caught:
        await client("lists", "delete_list_member", DEFAULT_LIST, hashed(ADA))
    assert caught.value.status_code == 405
    # archived ones are shown to who asks for them
    assert (await client("lists", "get_list_members_info", DEFAULT_LIST))["members"] == []
    assert len((await client("lists", "get_list_members_info", DEFAULT_LIST, status="archived"))["members"]) == 1


@pytest.mark.parametrize(
    ("area", "call", "given"),
    [
        ("lists", "set_list_member", [DEFAULT_LIST, hashed(ADA), {"email_address": ADA}]),
        ("lists", "set_list_member", [DEFAULT_LIST, "x", {"email_address": "x", "status_if_new": "subscribed"}]),
        ("lists", "create_list_webhook", [DEFAULT_LIST, {"url": "http://127.0.0.1:9/", "events": {}, "sources": {}}]),
        ("campaigns", "create", [{"type": "regular", "recipients": {"list_id": "none"}}]),
        ("ecommerce", "add_store_cart", ["shop-1", {"id": "A-1"}]),
        ("lists", "batch_list_members", [DEFAULT_LIST, {"members": [{"email_address": ADA}] * 501}]),
    ],
)
async def test_what_lacks_something_is_refused(
    client: Callable[..., Any], marketing: MailchimpSandbox, area: str, call: str, given: list[Any]
) -> None:
    marketing.account("main").stores["shop-1"] = Store("shop-1", DEFAULT_LIST)
    with pytest.raises(ApiClientError) as caught:
        await client(area, call, *given)
    assert caught.value.status_code == 400
    assert marketing.log == []


async def test_since_is_exclusive_before_is_not_and_pages_have_ten(
    client: Callable[..., Any], marketing: MailchimpSandbox
) -> None:
    rows = [await marketing.subscribe(f"p{n:02}@example.test") for n in range(12)]
    at = rows[0]["last_changed"]
    assert len((await client("lists", "get_list_members_info", DEFAULT_LIST))["members"]) == 10
    assert len((await client("lists", "get_list_members_info", DEFAULT_LIST, count=1000))["members"]) == 12
    asked = {"count": 1000, "since_last_changed": at}
    found = (await client("lists", "get_list_members_info", DEFAULT_LIST, **asked))["members"]
    assert all(row["last_changed"] > at for row in found)
    asked = {"count": 1000, "before_last_changed": rows[-1]["last_changed"]}
    assert len((await client("lists", "get_list_members_info", DEFAULT_LIST, **asked))["members"]) == 12
    with pytest.raises(ApiClientError):
        await client("lists", "get_list_members_info", DEFAULT_LIST, since_last_changed="2026-11-20T10:15:30.123Z")


async def test_activity_tells_of_every_recipient_and_only_of_what_is_new(
    client: Callable[..., Any], marketing: MailchimpSandbox, clock: Clock
) -> None:
    for name in (ADA, "bob@example.test"):
        await marketing.subscribe(name)
    campaign = marketing.draft()
    assert (await client("reports", "get_all_campaign_reports"))["reports"] == []
    marketing.send("main", campaign)
    event = await marketing.act(campaign, ADA, "open")
    [report] = (await client("reports", "get_all_campaign_reports"))["reports"]
    assert (report["opens"]["last_open"], report["clicks"]["last_click"]) == (event["timestamp"], "")
    asked = {"since": event["timestamp"].replace("+00:00", "Z")}
    emails = (await client("reports", "get_email_activity_for_campaign", campaign, **asked))["emails"]
    assert [one["activity"] for one in emails] == [[], []]
    emails = (await client("reports", "get_email_activity_for_campaign", campaign))["emails"]
    assert [len(one["activity"]) for one in emails] == [1, 0]
    with pytest.raises(ApiClientError):
        await client("campaigns", "send", campaign)


async def test_too_many_at_once_and_too_often_are_told_apart_from_forbidden(
    marketing: MailchimpSandbox, client: Callable[..., Any]
) -> None:
    marketing._at_once = MOST_AT_ONCE
    with pytest.raises(ApiClientError) as caught:
        await client("ping", "get")
    assert caught.value.status_code == 429
    marketing._at_once = 0
    marketing.throttle_until_ms = marketing.clock.now_ms() + 60_000
    with pytest.raises(ApiClientError) as caught:
        await client("ping", "get")
    assert "simultaneous connections" in str(caught.value.text)


# -- what is told ------------------------------------------------------------------------------------------------------


@pytest.fixture
async def hooked(marketing: MailchimpSandbox, mail: ContextMaker, listener: Listener) -> MailchimpSandbox:
    """The sandbox with a webhook that leads to the listener."""
    assert mailchimp.subscriptions
    async with mail() as ctx:
        await mailchimp.subscriptions.create(ctx, DEFAULT_LIST, listener.address)
    return marketing


def kinds(listener: Listener) -> list[str]:
    return [dict(call.form)["type"] for call in listener.calls]


async def test_what_people_do_is_told_in_its_kind(hooked: MailchimpSandbox, listener: Listener) -> None:
    await hooked.subscribe(ADA)
    await hooked.change(ADA, FNAME="Ada")
    await hooked.change_email(ADA, "ada.king@example.test")
    await hooked.unsubscribe("ada.king@example.test")
    await hooked.subscribe("gone@example.test")
    await hooked.clean("gone@example.test")
    hooked.send("main", hooked.draft())
    await hooked.settle()
    told = ["campaign", "cleaned", "profile", "profile", "subscribe", "subscribe", "unsubscribe", "upemail"]
    assert sorted(kinds(listener)) == told
    assert all("x-mailchimp-signature" in call.headers for call in listener.calls)


async def test_calls_are_repeated_lost_doubled_and_reordered(hooked: MailchimpSandbox, listener: Listener) -> None:
    listener.answers = [503, 200]
    await hooked.subscribe(ADA)
    await hooked.settle()
    assert kinds(listener) == ["subscribe", "subscribe"]
    assert listener.calls[0].body == listener.calls[1].body
    listener.calls.clear()
    hooked.lose = 1
    await hooked.change(ADA)
    hooked.double = 1
    await hooked.change(ADA)
    await hooked.settle()
    assert kinds(listener) == ["profile", "profile"]
    listener.calls.clear()
    hooked.reorder = 2
    await hooked.change(ADA)
    await hooked.unsubscribe(ADA)
    await hooked.settle()
    assert kinds(listener) == ["unsubscribe", "profile"]


@pytest.mark.parametrize("vector", [v for v in facts("signatures")["marketing"] if "expected" in v], ids=str)
def test_it_signs_as_the_vectors_do(vector: dict[str, Any]) -> None:
    headers = headers_of(vector["raw_body"].encode(), vector["secret"], vector["timestamp"] * 1000)
    assert headers["X-Mailchimp-Signature"] == vector["expected"]


async def test_people_act_by_hand_too(
    sandbox_url: str, marketing: MailchimpSandbox, transactional: MandrillSandbox
) -> None:
    async with aiohttp.ClientSession() as session:
        async with session.post(
            f"{sandbox_url}/mailchimp/_sandbox/subscribe", json={"email": ADA, "FNAME": "Ada"}
        ) as answer:
            assert (await answer.json())["merge_fields"] == {"FNAME": "Ada"}
        async with session.post(f"{sandbox_url}/mailchimp/_sandbox/subscribe", json={}) as answer:
            assert answer.status == 400
        async with session.post(
            f"{sandbox_url}/mandrill/_sandbox/act", json={"message_id": "x", "event": "open"}
        ) as answer:
            assert answer.status == 400


# -- Transactional, asked by mailchimp-transactional -------------------------------------------------------------------


@pytest.fixture
def single_client(transactional: MandrillSandbox, sandbox_url: str) -> Callable[..., Any]:
    made = mailchimp_transactional.Client(transactional.secret("main", "api_key"))
    for area in vars(made).values():
        inner = getattr(area, "api_client", area)
        if hasattr(inner, "host"):
            inner.host = f"{sandbox_url}/mandrill/api/1.3"

    async def ask(area: str, call: str, body: dict[str, Any]) -> Any:
        return await asyncio.to_thread(getattr(getattr(made, area), call), body)

    return ask


MESSAGE = {"from_email": "team@example.test", "to": [{"email": ADA}], "subject": "Hi", "html": "<p>Hi</p>"}


async def test_an_e_mail_is_sent_and_found_late(
    single_client: Callable[..., Any], transactional: MandrillSandbox
) -> None:
    assert await single_client("users", "ping2", {}) == {"PING": "PONG!"}
    [made] = await single_client("messages", "send", {"message": {**MESSAGE, "metadata": {"hub_run": "run-1"}}})
    assert made["status"] == "sent"
    day = transactional.clock.now_ms()

    asked = {"query": "metadata.hub_run:run-1", "limit": 100}
    asked |= {name: to_datetime(day).date().isoformat() for name in ("date_from", "date_to")}  # type: ignore[dict-item]
    assert not await _found(single_client, asked)
    transactional.clock.offset_ms += transactional.index_lag_ms
    assert [one["_id"] for one in await _found(single_client, asked)] == [made["_id"]]


async def test_what_becomes_of_an_e_mail_is_told_by_hand_of_the_latest_to_an_address(
    single_client: Callable[..., Any], transactional: MandrillSandbox, sandbox_url: str
) -> None:
    for subject in ("First", "Second"):
        [made] = await single_client("messages", "send", {"message": {**MESSAGE, "subject": subject}})
    async with aiohttp.ClientSession() as session:
        asked: dict[str, str] = {"to": ADA, "event": "click", "url": "https://shop.example.test/"}
        async with session.post(f"{sandbox_url}/mandrill/_sandbox/act", json=asked) as answer:
            told = await answer.json()
        async with session.post(
            f"{sandbox_url}/mandrill/_sandbox/act", json={**asked, "to": "nobody@example.test"}
        ) as answer:
            assert (answer.status, "no e-mail" in await answer.text()) == (400, True)
    assert (told["_id"], told["msg"]["subject"]) == (made["_id"], "Second")


async def _found(client: Callable[..., Any], asked: dict[str, Any]) -> list[Any]:
    answer = await client("messages", "search", dict(asked))
    # the vendor's client gives the bare response where the list is empty
    return answer if isinstance(answer, list) else []


@pytest.mark.parametrize(
    ("area", "call", "body", "name"),
    [
        ("messages", "send", {"message": {**MESSAGE, "to": []}}, "ValidationError"),
        ("messages", "send", {"message": {**MESSAGE, "html": None}}, "ValidationError"),
        ("messages", "send", {"message": {**MESSAGE, "from_email": ""}}, "ValidationError"),
        ("messages", "send", {"message": {**MESSAGE, "tags": ["_x"]}}, "ValidationError"),
        ("messages", "send_template", {"message": MESSAGE}, "ValidationError"),
        (
            "messages",
            "send_template",
            {"message": MESSAGE, "template_name": "x", "template_content": []},
            "Unknown_Template",
        ),
        ("messages", "search", {"limit": 10}, "ValidationError"),
        ("webhooks", "add", {"url": "http://127.0.0.1:9/", "events": ["send"]}, "ValidationError"),
        ("webhooks", "delete", {"id": 7}, "Unknown_Webhook"),
    ],
)
async def test_what_lacks_something_is_refused_there_too(
    single_client: Callable[..., Any], transactional: MandrillSandbox, area: str, call: str, body: Any, name: str
) -> None:
    with pytest.raises(TransactionalError) as caught:
        await single_client(area, call, body)
    assert caught.value.text["name"] == name
    assert transactional.log == []


async def test_a_wrong_key_is_refused_there_too(sandbox_url: str, single_client: Callable[..., Any]) -> None:
    url = f"{sandbox_url}/mandrill/api/1.0/users/ping2"
    async with aiohttp.ClientSession() as session, session.post(url, json={"key": "x"}) as answer:
        assert (answer.status, (await answer.json())["name"]) == (401, "Invalid_Key")


async def test_an_e_mails_life_is_told_doubled_and_lost(
    transactional: MandrillSandbox, single_client: Callable[..., Any], listener: Listener
) -> None:
    await single_client("webhooks", "add", {"url": listener.address, "events": ["send", "open", "hard_bounce"]})
    [made] = await single_client("messages", "send", {"message": MESSAGE})
    transactional.double = 1
    await transactional.act(made["_id"], "open")
    await transactional.act(made["_id"], "click", url="https://shop.example.test/")
    transactional.lose = 1
    await transactional.act(made["_id"], "hard_bounce")
    await transactional.settle()
    told = [dict(call.form)["mandrill_events"] for call in listener.calls]
    # trying it with nothing, send, open twice; nobody wanted clicks, and the bounce was lost
    assert sorted(body.count('"event": "open"') for body in told) == [0, 0, 1, 1]
    assert "[]" in told
