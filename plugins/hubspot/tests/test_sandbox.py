"""The sandbox is a HubSpot: its own client calls it, its webhooks are good to its own client, its limits hold."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from hubspot import HubSpot
from hubspot.crm.contacts import (
    BatchInputSimplePublicObjectBatchInputUpsert,
    BatchReadInputSimplePublicObjectId,
    Filter,
    FilterGroup,
    PublicObjectSearchRequest,
    SimplePublicObjectBatchInputUpsert,
    SimplePublicObjectId,
    SimplePublicObjectInput,
    SimplePublicObjectInputForCreate,
)
from hubspot.crm.contacts.exceptions import ApiException
from hubspot.crm.lists import ListSearchRequest
from hubspot.marketing.transactional import PublicSingleSendRequestEgg
from hubspot.utils.signature import Signature

import hub_hubspot.sandbox as sandbox_package
from hub import ActionContext, RateLimited
from hub.clock import Clock
from hub_hubspot import hubspot
from hub_hubspot.client import read_records, whoami
from hub_hubspot.sandbox import HubspotSandbox, Portal

ContextMaker = Callable[..., AbstractAsyncContextManager[ActionContext]]
Ask = Callable[[Callable[[HubSpot], Any]], Any]


@pytest.fixture
def ask(sandbox_url: str, sandbox: HubspotSandbox) -> Ask:
    """Asks the sandbox by HubSpot's own client, which blocks: beside the loop that the sandbox runs in."""
    client = HubSpot(access_token=sandbox.secret("62515", "access_token"), host=f"{sandbox_url}/hubspot")

    async def asked(call: Callable[[HubSpot], Any]) -> Any:
        return await asyncio.to_thread(call, client)

    return asked


# -- as HubSpot's own client sees it -----------------------------------------------------------------------------------


async def test_a_contact_is_made_read_changed_and_found(ask: Ask) -> None:
    new = SimplePublicObjectInputForCreate(properties={"email": "ada@example.test"}, associations=[])
    made = await ask(lambda c: c.crm.contacts.basic_api.create(new))
    changed = await ask(
        lambda c: c.crm.contacts.basic_api.update(
            "ada@example.test", SimplePublicObjectInput(properties={"city": "Izmir"}), id_property="email"
        )
    )
    read = await ask(lambda c: c.crm.contacts.basic_api.get_by_id(made.id, properties=["city", "email"]))
    by_city = Filter(property_name="city", operator="EQ", value="izmir")
    found = await ask(
        lambda c: c.crm.contacts.search_api.do_search(
            PublicObjectSearchRequest(filter_groups=[FilterGroup(filters=[by_city])], limit=10)
        )
    )
    every = await ask(lambda c: c.crm.contacts.get_all())
    assert changed.id == read.id == made.id
    assert read.properties["city"] == "Izmir"
    assert (found.total, found.results[0].id) == (1, made.id)
    assert [one.id for one in every] == [made.id]


async def test_a_batch_is_answered_in_part(ask: Ask) -> None:
    people = [("a@example.test", "t/0"), ("nobody", "t/1")]
    inputs = [
        SimplePublicObjectBatchInputUpsert(id=email, id_property="email", properties={}, object_write_trace_id=trace)
        for email, trace in people
    ]
    found = await ask(
        lambda c: c.crm.contacts.batch_api.upsert(BatchInputSimplePublicObjectBatchInputUpsert(inputs=inputs))
    )
    assert [one.object_write_trace_id for one in found.results] == ["t/0"]
    assert found.results[0].new
    wanted = BatchReadInputSimplePublicObjectId(
        inputs=[SimplePublicObjectId(id=found.results[0].id)], properties=["email"], properties_with_history=[]
    )
    read = await ask(lambda c: c.crm.contacts.batch_api.read(wanted))
    assert read.results[0].properties["email"] == "a@example.test"


async def test_a_batch_of_fifty_is_read_with_its_past(ask: Ask, portal: Portal) -> None:
    row = portal.make("contacts", {"email": "ada@example.test", "city": "Izmir"}, 1_000)
    portal.change("contacts", row, {"city": "Bursa"}, 2_345)

    def wanted(ids: list[str]) -> BatchReadInputSimplePublicObjectId:
        return BatchReadInputSimplePublicObjectId(
            inputs=[SimplePublicObjectId(id=one) for one in ids], properties=[], properties_with_history=["city"]
        )

    read = await ask(lambda c: c.crm.contacts.batch_api.read(wanted([row.id])))
    past = read.results[0].properties_with_history["city"]
    assert [(one.value, one.timestamp.timestamp(), one.source_type) for one in past] == [
        ("Bursa", 2.345, "CRM_UI"),
        ("Izmir", 1.0, "CRM_UI"),
    ]
    with pytest.raises(ApiException) as caught:
        await ask(lambda c: c.crm.contacts.batch_api.read(wanted([str(n) for n in range(51)])))
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("properties", "status", "category"),
    [
        ({"email": "ada@example.test"}, 409, "CONFLICT"),
        ({"email": "nobody"}, 400, "VALIDATION_ERROR"),
        ({"shoe_size": "37", "email": "b@example.test"}, 400, "VALIDATION_ERROR"),
        ({"city": "Izmir"}, 400, "VALIDATION_ERROR"),
    ],
)
async def test_a_refusal_has_hubspots_body(
    properties: dict[str, str], status: int, category: str, ask: Ask, portal: Portal
) -> None:
    portal.make("contacts", {"email": "ada@example.test"}, 0)
    new = SimplePublicObjectInputForCreate(properties=properties, associations=[])
    with pytest.raises(ApiException) as caught:
        await ask(lambda c: c.crm.contacts.basic_api.create(new))
    assert caught.value.status == status
    body = json.loads(caught.value.body)
    assert (body["status"], body["category"]) == ("error", category)
    assert body["correlationId"]


async def test_owners_and_pipelines_are_read(ask: Ask) -> None:
    owners = await ask(lambda c: c.crm.owners.owners_api.get_page(limit=2))
    assert (len(owners.results), owners.paging.next.after) == (2, "2")
    assert (owners.results[1].id, owners.results[1].teams[0].name) == ("502", "Sales")
    pipelines = await ask(lambda c: c.crm.pipelines.pipelines_api.get_all("deals").results)
    assert [one.label for one in pipelines] == ["Sales Pipeline", "Renewals"]
    assert [one.id for one in pipelines[1].stages] == ["771", "772"]


async def test_static_lists_take_members(ask: Ask, portal: Portal) -> None:
    ada = portal.make("contacts", {"email": "ada@example.test"}, 0)
    added = await ask(lambda c: c.crm.lists.memberships_api.add("31", [ada.id, "404"]))
    assert (added.records_ids_added, added.record_ids_missing) == ([ada.id], ["404"])
    found = await ask(lambda c: c.crm.lists.memberships_api.get_page_ordered_by_added_to_list_date("31"))
    assert found.results[0].record_id == ada.id
    lists = await ask(lambda c: c.crm.lists.lists_api.do_search(ListSearchRequest(processing_types=["MANUAL"])))
    assert [one.name for one in lists.lists] == ["Newsletter"]


async def test_one_e_mail_is_sent_for_each_send_id(ask: Ask, sandbox: HubspotSandbox) -> None:
    request = PublicSingleSendRequestEgg(email_id=4126643121, message={"to": "a@example.test", "sendId": "s-1"})
    first, again = [await ask(lambda c: c.marketing.transactional.single_send_api.send_email(request)) for _ in "12"]
    assert (first.status, again.send_result) == ("PENDING", "IDEMPOTENT_IGNORE")
    assert [entry.operation for entry in sandbox.log] == ["send_email"]


async def test_a_wrong_token_is_refused(sandbox_url: str) -> None:
    client = HubSpot(access_token="wrong", host=f"{sandbox_url}/hubspot")
    with pytest.raises(ApiException) as caught:
        await asyncio.to_thread(lambda: client.crm.contacts.basic_api.get_page())
    assert caught.value.status == 401


# -- limits ------------------------------------------------------------------------------------------------------------


async def test_the_hundred_and_first_call_in_ten_seconds_is_refused_with_its_policy(
    context: ContextMaker, sandbox: HubspotSandbox, portal: Portal
) -> None:
    async with context() as ctx:
        for _ in range(100):
            await whoami(ctx)
        with pytest.raises(RateLimited) as caught:
            await whoami(ctx)
        assert (caught.value.code, caught.value.retry_after_s) == ("TEN_SECONDLY_ROLLING", 10)
        portal.calls.clear()
        await whoami(ctx)


async def test_the_sixth_search_in_a_second_is_refused_and_counts_for_no_other_limit(
    context: ContextMaker, portal: Portal
) -> None:
    search = hubspot.actions["search_contact"]
    wanted = search.input.model_validate({"property": "city", "value": "x"})
    async with context() as ctx:
        for _ in range(5):
            await search.run(ctx, wanted)
        with pytest.raises(RateLimited) as caught:
            await search.run(ctx, wanted)
        await read_records(ctx, "contacts", ["1"], [])
    assert (caught.value.code, caught.value.retry_after_s) == ("SECONDLY", 1)


async def test_an_answer_tells_what_is_left_except_that_of_a_search(sandbox_url: str, sandbox: HubspotSandbox) -> None:
    headers = {"Authorization": f"Bearer {sandbox.secret('62515', 'access_token')}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        async with session.get(f"{sandbox_url}/hubspot/account-info/v3/details") as answer:
            assert answer.headers["X-HubSpot-RateLimit-Remaining"] == "99"
        async with session.post(f"{sandbox_url}/hubspot/crm/v3/objects/contacts/search", json={}) as answer:
            assert answer.status == 200
            assert "X-HubSpot-RateLimit-Remaining" not in answer.headers


# -- webhooks ----------------------------------------------------------------------------------------------------------


@dataclass
class Listener:
    """Stands where the hub's webhook address would be, and keeps every call."""

    address: str = ""
    calls: list[tuple[dict[str, str], str]] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.Response:
        self.calls.append((dict(request.headers), await request.text()))
        return web.Response(status=204)


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    found = Listener()
    app = web.Application()
    app.router.add_post("/in", found.take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.address = f"http://127.0.0.1:{runner.addresses[0][1]}/in"
    yield found
    await runner.cleanup()


async def by_hand(url: str, name: str, **fields: Any) -> Any:
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{url}/hubspot/_sandbox/{name}", json=fields) as answer,
    ):
        return await answer.json()


def is_good(headers: dict[str, str], body: str, secret: str, url: str) -> bool:
    """Whether both signatures of a call are good to HubSpot's own client."""
    timestamp = headers["X-HubSpot-Request-Timestamp"]
    newer = Signature.is_valid(headers["X-HubSpot-Signature-v3"], secret, body, url, "POST", "v3", timestamp)
    older = Signature.is_valid(headers["X-HubSpot-Signature"], secret, body, signature_version="v1")
    return newer and older


async def test_what_people_do_is_told_by_signed_calls(
    sandbox: HubspotSandbox, sandbox_url: str, listener: Listener
) -> None:
    made = await by_hand(sandbox_url, "contact", address=listener.address, email="zoë@example.test", city="Izmir")
    await by_hand(sandbox_url, "contact", id=made["id"], city="Bursa")
    await by_hand(sandbox_url, "ticket", subject="Leak", hs_pipeline_stage="1", contact_id=made["id"])
    await by_hand(sandbox_url, "delete", id=made["id"], privacy=True)
    told = [event["subscriptionType"] for _, body in listener.calls for event in json.loads(body)]
    assert told == [
        "contact.creation",
        "contact.propertyChange",
        "ticket.creation",
        "contact.deletion",
        "contact.privacyDeletion",
    ]
    secret = sandbox.secret("62515", "client_secret")
    assert all(is_good(headers, body, secret, listener.address) for headers, body in listener.calls)


async def test_what_the_api_changes_is_told_too(
    sandbox: HubspotSandbox, portal: Portal, listener: Listener, context: ContextMaker
) -> None:
    sandbox.addresses[portal.id] = listener.address
    upsert = hubspot.actions["upsert_contact"]
    async with context() as ctx:
        await upsert.run(ctx, upsert.input.model_validate({"email": "ada@example.test"}))
    await sandbox.settle()
    [event] = [event for _, body in listener.calls for event in json.loads(body)]
    assert (event["subscriptionType"], event["changeSource"]) == ("contact.creation", "INTEGRATION")


async def test_a_redelivery_counts_up_and_is_signed_anew(sandbox: HubspotSandbox, listener: Listener) -> None:
    event = sandbox.event("62515", "contact.creation", objectId=1)
    await sandbox.tell(listener.address, [event], portal="62515")
    await sandbox.redeliver()
    [(_, first), (headers, again)] = listener.calls
    assert json.loads(again) == [{**json.loads(first)[0], "attemptNumber": 1}]
    assert is_good(headers, again, sandbox.secret("62515", "client_secret"), listener.address)


async def test_deliveries_are_lost_doubled_turned_round_and_signed_wrongly_on_request(
    sandbox: HubspotSandbox, listener: Listener
) -> None:
    events = [sandbox.event("62515", "contact.creation", objectId=n) for n in (1, 2)]
    assert await sandbox.tell(listener.address, events, portal="62515", times=0) == 0
    await sandbox.tell(listener.address, events, portal="62515", times=2, reverse=True)
    await sandbox.tell(listener.address, events, portal="62515", signed=False)
    assert len(listener.calls) == 3
    assert listener.calls[0][1] == listener.calls[1][1]
    assert [event["objectId"] for event in json.loads(listener.calls[0][1])] == [2, 1]
    headers, body = listener.calls[2]
    assert not is_good(headers, body, sandbox.secret("62515", "client_secret"), listener.address)


async def test_a_workflow_s_call_is_signed_by_version_2(
    sandbox: HubspotSandbox, sandbox_url: str, listener: Listener
) -> None:
    await by_hand(sandbox_url, "workflow", address=listener.address, vid=1)
    [(headers, body)] = listener.calls
    secret = sandbox.secret("62515", "client_secret")
    assert headers["X-HubSpot-Signature-Version"] == "v2"
    assert Signature.is_valid(headers["X-HubSpot-Signature"], secret, body, listener.address, "POST", "v2")


async def test_an_account_is_opened_by_hand(sandbox: HubspotSandbox, sandbox_url: str, context: ContextMaker) -> None:
    await by_hand(sandbox_url, "portal", portal_id=4711)
    async with context({"portal_id": "4711"}) as ctx:
        assert (await whoami(ctx)).id == "4711"


def test_the_sandbox_shares_no_code_that_reads_or_signs_with_the_connector() -> None:
    shared = (
        "hub_hubspot.client",
        "hub_hubspot.webhook",
        "hub_hubspot.triggers",
        "hub_hubspot.actions",
        "hub_hubspot.paths",
    )
    for module in Path(sandbox_package.__file__).parent.glob("*.py"):
        assert not any(name in module.read_text() for name in shared), module.name


def test_a_sandbox_has_its_two_accounts_from_the_start() -> None:
    assert set(HubspotSandbox(Clock()).portals) == {"62515", "70001"}
