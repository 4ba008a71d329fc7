"""The contract of every connector."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from hub import ChoiceQuery, Delivery, InboundRequest
from hub.clock import Clock
from hub.testing.context import sandbox_context, sandbox_fields
from hub.testing.contract import Call, Contract
from hub.testing.sandbox import SandboxServer
from hub_hubspot import hubspot
from hub_hubspot.client import granted
from hub_hubspot.sandbox import HubspotSandbox
from hub_hubspot.sandbox.portal import ListOf
from hub_hubspot.triggers.lists import recent_leaves
from hub_hubspot.webhook import SIGNATURE_V3, TIMESTAMP, sign_v3

PORTAL = "62515"
FORM = "f0000000-0000-4000-8000-000000000000"
BOB = "10001"
CHANGES = "deal.dealstage, ticket.hs_pipeline_stage, contact.city"


class TestHubspot(Contract):
    connector = hubspot
    settings = {"portal_id": PORTAL, "watched_lists": "31", "missed_changes": CHANGES}
    inputs = {
        "upsert_contact": {"email": "ada@example.test", "first_name": "Ada"},
        "update_contact": {"contact": BOB, "properties": {"city": "Izmir"}},
        "move_lifecycle_stage": {"contact": BOB, "stage": "customer"},
        "search_contact": {"property": "city", "value": "Ankara"},
        "assign_owner": {"record": BOB, "team": "9"},
        "create_note": {"contact": BOB, "body": "Called back"},
        "create_task": {"contact": BOB, "subject": "Call back"},
        "create_ticket": {"contact": BOB, "subject": "Late parcel"},
        "create_deal": {"contact": BOB, "name": "Renewal", "stage": "appointmentscheduled", "amount": "49.90"},
        "update_deal": {"deal_id": "10002", "stage": "closedwon"},
        "add_to_list": {"list_id": "31", "contact": BOB},
        "remove_from_list": {"list_id": "31", "contact": BOB},
        "set_subscription": {"email": "bob@example.test", "subscription": "7104", "status": "UNSUBSCRIBED"},
        "send_email": {"to": "ada@example.test", "email_id": "4126643121"},
        "send_event": {"contact": BOB, "event": "order_shipped", "properties": {"carrier": "Post"}},
    }

    async def prepare(self, sandbox: HubspotSandbox) -> None:
        portal, now_ms = sandbox.portal(PORTAL), sandbox.clock.now_ms()
        bob = portal.make("contacts", {"email": "bob@example.test", "city": "Ankara"}, now_ms)
        portal.make("deals", {"dealname": "Old", "dealstage": "appointmentscheduled"}, now_ms)
        ticket = portal.make("tickets", {"subject": "Broken", "hs_pipeline_stage": "1"}, now_ms)
        portal.join("tickets", ticket.id, "contacts", bob.id)
        left = portal.make("contacts", {"email": "left@example.test"}, now_ms)
        portal.change("contacts", left, {"hs_email_optout": "true"}, now_ms)
        portal.lists["31"] = ListOf("31", "Newsletter", members={bob.id: now_ms})
        await sandbox.submission(portal, email="bob@example.test")
        for type_ in ("OPEN", "CLICK", "BOUNCE", "SPAMREPORT"):
            await sandbox.email_event(portal, type_, "bob@example.test")

    def test_a_poll_finds_the_same_facts_again(self, poll: str) -> None:
        """Who left a list is told by comparison with an earlier poll, so that one poll alone finds nobody."""
        if poll == "list_left":
            asyncio.run(_prove_leaving(self))
        else:
            super().test_a_poll_finds_the_same_facts_again(poll)

    def sign(self, call: Call) -> Mapping[str, str]:
        timestamp = str(call.at_ms)
        return {SIGNATURE_V3: sign_v3(call.secret, "POST", call.url, call.body, timestamp), TIMESTAMP: timestamp}


async def _prove_leaving(suite: TestHubspot) -> None:
    sandbox = HubspotSandbox(Clock())
    await suite.prepare(sandbox)
    async with (
        SandboxServer({"hubspot": sandbox}) as server,
        sandbox_context(hubspot, server.url, suite.settings) as ctx,
    ):
        [first] = [page async for page in recent_leaves.fetch(ctx, None, 0)]
        sandbox.portal(PORTAL).lists["31"].members.clear()
        found = [
            [hubspot.triggers["list_left"].event(item, 0).fact_id for item in page.items]
            for _ in range(2)
            async for page in recent_leaves.fetch(ctx, first.cursor, 0)
        ]
    assert first.items == []
    assert len(found[0]) == 1
    assert found[0] == found[1]


@pytest.mark.parametrize("version", ["v3", "2026-03", "2026-09"])
async def test_everything_that_is_known_of_the_api_is_asked_for_in_every_version(version: str, witness: Any) -> None:
    """Account, actions, look-ups, enrichments, polls, histories and choices: none asks for what is not known, none is forgotten."""
    suite, sandbox = TestHubspot(), HubspotSandbox(Clock())
    await suite.prepare(sandbox)
    sandbox.limits = False
    settings = {**suite.settings, "api_version": version}
    async with (
        SandboxServer({"hubspot": sandbox}) as server,
        sandbox_context(hubspot, server.url, settings) as ctx,
    ):
        assert hubspot.whoami
        assert (await hubspot.whoami(ctx)).id == PORTAL
        fields = sandbox_fields(hubspot, settings)
        assert await granted(ctx, fields) == sandbox.portal(PORTAL).scopes
        for name, action in hubspot.actions.items():
            for more in _OTHER_WAYS.get(name, [{}]):
                given = action.input.model_validate({**suite.inputs[name], **more})
                await action.run(ctx, given)
                if action.lookup_:
                    assert await action.lookup_(ctx, given) is not None
        for trigger in hubspot.triggers.values():
            if trigger.enrich_:
                sample = (suite.folder() / str(trigger.sample)).read_bytes()
                request = InboundRequest("POST", "https://hub.example.test/in", {}, sample)
                made = trigger.parse(Delivery(request, "hubspot", "crm", PORTAL, "events", 0)) if trigger.parse else ()
                await trigger.enrich_(ctx, list(made))
        sandbox.portal(PORTAL).lists["31"].members[BOB] = sandbox.clock.now_ms()
        for read in (*hubspot.polls.values(), *hubspot.histories.values()):
            assert [page async for page in read.fetch(ctx, None, 0)]
        for choose in hubspot.choices.values():
            await choose(ctx, ChoiceQuery(within={}))
    for asked in witness.requests:
        witness.check(asked)
    assert witness.operations == {f"{one['method']} {one['path']}" for one in witness.facts["operations"]}


_OTHER_WAYS: Mapping[str, list[dict[str, str]]] = {
    "assign_owner": [{}, {"record": "10002", "kind": "deals"}, {"record": "10003", "kind": "tickets"}],
    "set_subscription": [{}, {"status": "SUBSCRIBED", "consented_at": "2026-11-29T10:00:00Z"}],
    "send_email": [{"kind": "marketing"}, {"kind": "transactional"}],
}
