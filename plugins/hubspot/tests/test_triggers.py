"""What webhooks tell: events of one or several accounts, filled in, once each; through a whole hub where that matters."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic_core import to_json

from hub import ActionContext, ConsentSignal, ConsentState, Delivery, Event, Identity, PayloadError, Privacy
from hub.connector import sandbox_secret
from hub.process import Hub
from hub.store import views, work
from hub.store.lanes import Lane, Rank
from hub.testing.contract.stage import hub_of
from hub_hubspot import hubspot
from hub_hubspot.sandbox import HubspotSandbox, Portal, telling
from hub_hubspot.triggers.contacts import ContactChanged, ContactCreated, fill_in
from hub_hubspot.triggers.records import DealStageChanged, TicketCreated, fill_in_deals, fill_in_tickets

PORTAL, OTHER = "62515", "70001"
MakeDelivery = Callable[[Any], Delivery]
ContextMaker = Callable[..., AbstractAsyncContextManager[ActionContext]]


def event(type_: str, object_id: int = 1, portal: str = PORTAL, **more: Any) -> dict[str, Any]:
    return telling.event(portal, type_, 7, 1_795_169_730_123, objectId=object_id, **more)


def parsed(delivery: Delivery) -> list[Event]:
    found = hubspot.parse(delivery)
    assert found is not None
    return found


def types(delivery: Delivery) -> list[str]:
    return [one.type.removeprefix("hubspot.") for one in parsed(delivery)]


# -- which event is whose ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (event("contact.creation"), ["contact_created"]),
        (event("object.creation", objectTypeId="0-1"), ["contact_created"]),
        (event("contact.propertyChange", propertyName="city", propertyValue="Izmir"), ["contact_changed"]),
        (
            event("contact.propertyChange", propertyName="hs_email_optout", propertyValue="true"),
            ["contact_changed", "email_unsubscribed"],
        ),
        (event("contact.propertyChange", propertyName="hs_email_optout", propertyValue="false"), ["contact_changed"]),
        (event("contact.deletion"), ["contact_deleted"]),
        (event("contact.privacyDeletion"), ["contact_erased"]),
        (event("deal.propertyChange", propertyName="dealstage", propertyValue="1"), ["deal_stage_changed"]),
        (event("object.propertyChange", objectTypeId="0-3", propertyName="dealstage", propertyValue="1"), ["deal_stage_changed"]),
        (event("deal.propertyChange", propertyName="amount", propertyValue="1"), []),
        (event("ticket.creation"), ["ticket_created"]),
        (event("ticket.propertyChange", propertyName="subject", propertyValue="x"), ["ticket_changed"]),
        (event("object.creation", objectTypeId="0-48"), []),
        (event("contact.merge", primaryObjectId=1, mergedObjectIds=[2]), []),
        (event("company.creation"), []),
        (event("conversation.newMessage", messageId="b3"), []),
    ],
)  # fmt: skip
def test_each_type_of_event_starts_its_own_trigger(told: dict[str, Any], expected: list[str], delivery: Any) -> None:
    assert types(delivery([told])) == expected


def test_an_event_may_name_its_type_in_the_older_way(delivery: MakeDelivery) -> None:
    told = event("")
    del told["subscriptionType"]
    assert types(delivery([{**told, "eventType": "contact.creation"}])) == ["contact_created"]


def test_every_type_that_is_read_is_one_that_hubspot_has(facts: dict[str, Any]) -> None:
    known = set(facts["webhook_event_types"])
    kinds = {"contact": ["creation", "propertyChange", "deletion", "privacyDeletion"]}
    kinds |= {"deal": ["propertyChange"], "ticket": ["creation", "propertyChange"]}
    assert {f"{kind}.{what}" for kind, whats in kinds.items() for what in whats} <= known
    assert facts["object_types"] | {"contact": "0-1", "deal": "0-3", "ticket": "0-5"} == facts["object_types"]


@pytest.mark.parametrize("body", [{"vid": 1}, "x", [1], [[]]])
def test_a_body_that_is_no_list_of_events_cannot_be_read(body: Any, delivery: MakeDelivery) -> None:
    made = delivery([])
    bad = Delivery(
        made.request.__class__("POST", "https://x.test", {}, json.dumps(body).encode()),
        "hubspot",
        "c",
        PORTAL,
        "events",
        0,
    )
    with pytest.raises(PayloadError):
        hubspot.parse(bad)


def test_a_redelivery_tells_the_same_facts(delivery: MakeDelivery) -> None:
    events = [
        event("contact.creation"),
        event("contact.propertyChange", propertyName="city", propertyValue="Izmir"),
        event("contact.deletion"),
        event("deal.propertyChange", propertyName="dealstage", propertyValue="1"),
    ]
    again = json.loads(telling.again(json.dumps(events).encode()))
    assert [one["attemptNumber"] for one in again] == [1] * 4
    assert [e.fact_id for e in parsed(delivery(events))] == [e.fact_id for e in parsed(delivery(again))]


def test_changes_that_differ_in_anything_are_facts_of_their_own(delivery: MakeDelivery) -> None:
    told = event("contact.propertyChange", propertyName="city", propertyValue="Izmir")
    different = [
        {"objectId": 2},
        {"propertyName": "country"},
        {"propertyValue": "Bursa"},
        {"occurredAt": told["occurredAt"] + 1},
        {"portalId": 70001},
    ]
    made = [told, *({**told, **one} for one in different)]
    assert len({e.fact_id for e in parsed(delivery(made))}) == len(made)


def test_a_fact_holds_no_value_of_anybody(delivery: MakeDelivery) -> None:
    told = event("contact.propertyChange", propertyName="email", propertyValue="ada@example.test")
    assert "ada" not in parsed(delivery([told]))[0].fact_id


def test_a_change_carries_name_value_time_and_source(delivery: MakeDelivery) -> None:
    [one] = parsed(delivery("contact_changed.json"))
    assert one.data["property_name"] == "lifecyclestage"
    assert one.data["property_value"] == "lead"
    assert one.data["source"] == "CRM_UI"
    assert (one.occurred_at_ms, one.account) == (1_795_169_730_123, PORTAL)
    assert one.correlate == {"contact_id": "10451", "property_name": "lifecyclestage"}


def test_a_value_that_was_cleared_is_an_empty_text(delivery: MakeDelivery) -> None:
    [one] = parsed(delivery([event("contact.propertyChange", propertyName="city")]))
    assert one.data["property_value"] == ""


def test_a_privacy_deletion_asks_the_hub_to_erase_the_person(delivery: MakeDelivery) -> None:
    trigger = hubspot.triggers["contact_erased"]
    assert trigger.privacy is Privacy.ERASE_PERSON
    assert trigger.always
    [deleted, erased] = parsed(delivery("contact_erased.json"))
    assert (deleted.type, erased.type) == ("hubspot.contact_deleted", "hubspot.contact_erased")
    assert erased.subject == Identity(vendor="10453")


# -- filling in --------------------------------------------------------------------------------------------------------


def changed(contact: str, **more: Any) -> ContactChanged:
    told = {"portalId": PORTAL, "occurredAt": 1, "objectId": contact, "propertyName": "city", "propertyValue": "x"}
    return ContactChanged.model_validate({**told, **more})


async def test_a_hundred_events_are_filled_in_by_one_call(portal: Portal, context: ContextMaker) -> None:
    ids = [portal.make("contacts", {"email": f"p{n}@example.test", "firstname": f"P{n}"}, 0).id for n in range(99)]
    async with context() as ctx:
        filled = await fill_in(ctx, [changed(one) for one in [*ids, "999999"]])
    assert [one.first_name for one in filled] == [*(f"P{n}" for n in range(99)), None]
    assert filled[99].contact_id == "999999"
    assert len(portal.calls) == 1


async def test_properties_of_the_setting_come_along(portal: Portal, context: ContextMaker) -> None:
    ada = portal.make("contacts", {"email": "ada@example.test", "city": "Izmir", "company": "Sea"}, 0)
    async with context({"contact_properties": "city, company"}) as ctx:
        [filled] = await fill_in(ctx, [changed(ada.id)])
    assert filled.properties == {"city": "Izmir", "company": "Sea"}


async def test_who_unsubscribed_is_told_to_the_ledger_once_the_address_is_known(
    portal: Portal, context: ContextMaker
) -> None:
    trigger = hubspot.triggers["email_unsubscribed"]
    ada = portal.make("contacts", {"email": "Ada@example.test"}, 0)
    bare = changed(ada.id, propertyName="hs_email_optout", propertyValue="true")
    assert trigger.event(bare, 0).consents == ()
    async with context() as ctx:
        [filled] = await fill_in(ctx, [bare])
    signal = ConsentSignal("email", "Ada@example.test", ConsentState.REVOKED, "unsubscribe")
    assert trigger.event(filled, 0).consents == (signal,)


async def test_a_deal_and_a_ticket_are_their_first_contacts(portal: Portal, context: ContextMaker) -> None:
    ada = portal.make("contacts", {"email": "ada@example.test", "phone": "0555 no country"}, 0)
    deal = portal.make("deals", {"dealname": "Boat", "dealstage": "closedwon", "pipeline": "77", "amount": "12.50"}, 0)
    ticket = portal.make("tickets", {"subject": "Leak", "hs_pipeline_stage": "2", "hs_pipeline": "0"}, 0)
    for kind, row in (("deals", deal), ("tickets", ticket)):
        portal.join(kind, row.id, "contacts", ada.id)
    told = {"portalId": PORTAL, "occurredAt": 1}
    async with context() as ctx:
        moved = DealStageChanged.model_validate({**told, "objectId": deal.id, "propertyValue": "771"})
        lonely = moved.model_copy(update={"deal_id": portal.make("deals", {"dealname": "x", "dealstage": "1"}, 0).id})
        [of_ada, of_nobody] = await fill_in_deals(ctx, [moved, lonely])
        [opened] = await fill_in_tickets(ctx, [TicketCreated.model_validate({**told, "objectId": ticket.id})])
    assert (of_ada.stage, of_ada.deal_name, of_ada.amount, of_ada.email) == ("771", "Boat", "12.50", "ada@example.test")
    assert (of_nobody.deal_name, of_nobody.email) == ("x", None)
    assert (opened.subject, opened.stage, opened.contact_id) == ("Leak", "2", ada.id)
    # A number without a country is no number for the hub.
    assert hubspot.triggers["ticket_created"].event(opened, 0).subject == Identity(
        email="ada@example.test", vendor=ada.id
    )


async def test_nothing_is_asked_for_contacts_where_no_record_is_left(context: ContextMaker, portal: Portal) -> None:
    async with context() as ctx:
        gone = TicketCreated.model_validate({"portalId": PORTAL, "occurredAt": 1, "objectId": "5"})
        assert await fill_in_tickets(ctx, [gone]) == [gone]
    assert len(portal.calls) == 1


# -- through a whole hub -----------------------------------------------------------------------------------------------


@dataclass
class Place:
    """A hub with a connection of the first account, and the sandbox."""

    hub: Hub
    sandbox: HubspotSandbox

    async def send(self, events: Sequence[dict[str, Any]], *, secret: str | None = None) -> int:
        """One signed call to the first account's connection; its status."""
        connection = await self.hub.connections.by_name("hubspot")
        url = self.hub.connections.inbound_url(connection)
        assert url
        sent = telling.Delivery(url, telling.written(events), ("v1", "v3"), PORTAL, True)
        headers = telling.headers(sent, secret or self.sandbox.secret(PORTAL, "client_secret"), self.hub.clock.now_ms())
        reply = await self.hub.ingest.receive(
            "hubspot",
            connection.inbound_key,
            method="POST",
            query="",
            headers={name.lower(): value for name, value in headers.items()},
            body=sent.body,
        )
        return reply.status

    async def events(self) -> list[Any]:
        async with self.hub.store.read() as c:
            return await views.list_events(c, most=1000)


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    async with hub_of(hubspot, {"portal_id": PORTAL}) as (hub, sandbox):
        assert isinstance(sandbox, HubspotSandbox)
        yield Place(hub, sandbox)


async def test_a_delivery_that_comes_again_reordered_and_doubled_makes_no_second_event(place: Place) -> None:
    events = [event("contact.creation", n) for n in range(5)]
    assert await place.send(events) == 200
    again = [{**one, "attemptNumber": 1, "subscriptionId": 5, "eventId": 99} for one in reversed(events)]
    assert await place.send([*again, *again]) == 200
    assert len(await place.events()) == 5


async def test_a_hundred_events_of_several_accounts_find_their_connections(place: Place) -> None:
    # given an app with two accounts, and one that stands alone
    connections = place.hub.connections
    app = await connections.add_app("hubspot", "ours", {"client_id": "c-1", "client_secret": "app-secret"})
    for name, portal in (("app-one", OTHER), ("app-two", "90210")):
        token = sandbox_secret("hubspot", portal, "access_token")
        connector, kind, _ = await connections.prepared("hubspot", name, {}, sandbox=True, auth="oauth2", app="ours")
        values = {"api_version": "2026-03", "access_token": token}
        await connections.insert(connector, kind, name, portal, values, sandbox=True, app="ours")

    # when HubSpot calls the app's address about these, and about one that nobody connected
    portals = (OTHER, "90210", PORTAL, "1")
    body = telling.written([event("contact.creation", n, portal=portals[n % 4]) for n in range(100)])
    sent = telling.Delivery(connections.inbound_url(app), body, ("v1", "v3"), OTHER, True)
    headers = telling.headers(sent, "app-secret", place.hub.clock.now_ms())
    reply = await place.hub.ingest.receive(
        "hubspot",
        app.inbound_key,
        method="POST",
        query="",
        headers={name.lower(): value for name, value in headers.items()},
        body=body,
    )

    # then each account's go to its connection, and those of others to none
    assert reply.status == 200
    found = [one["connection"] or one["stage"] for one in await place.events()]
    assert {name: found.count(name) for name in set(found)} == {"app-one": 25, "app-two": 25, "unconnected": 50}


async def test_who_knows_one_account_s_secret_says_nothing_for_another(place: Place) -> None:
    await place.hub.connections.add("hubspot", "other", {"portal_id": OTHER}, sandbox=True)
    assert await place.send([event("contact.creation", n, portal=(PORTAL, OTHER)[n]) for n in range(2)]) == 200
    assert {one["connection"] or one["stage"] for one in await place.events()} == {"hubspot", "unconnected"}


async def test_events_are_filled_in_before_recipes_see_them() -> None:
    async with hub_of(hubspot, {"portal_id": PORTAL}, work=True) as (hub, sandbox):
        assert isinstance(sandbox, HubspotSandbox)
        ada = sandbox.portal(PORTAL).make("contacts", {"email": "ada@example.test", "hs_email_optout": "true"}, 0)
        told = event("contact.propertyChange", int(ada.id), propertyName="hs_email_optout", propertyValue="true")
        await Place(hub, sandbox).send([told])
        await hub.time.advance(hub.clock.now_ms() + 60_000, ring=hub.ring)
        async with hub.store.read() as c:
            [left] = await views.list_events(c, type_="hubspot.email_unsubscribed")
            shown = await views.show_event(c, left["id"])
            consents = await c.all("select address, state from consent")
    assert shown["data"]["email"] == "ada@example.test"
    assert left["contact"]
    assert [dict(row) for row in consents] == [{"address": "ada@example.test", "state": "revoked"}]


@pytest.mark.parametrize(
    ("name", "kind", "changed"),
    [
        ("deal_stage_changed", "deals", {"dealname": "Boat", "dealstage": "closedwon"}),
        ("ticket_changed", "tickets", {"subject": "Leak", "hs_pipeline_stage": "4"}),
        ("contact_changed", "contacts", {"email": "ada@example.test", "city": "Izmir"}),
    ],
)
async def test_a_change_that_webhook_and_poll_tell_of_one_instant_is_one_event(
    name: str, kind: str, changed: dict[str, str]
) -> None:
    property_, value = list(changed.items())[-1]
    settings = {"portal_id": PORTAL, "missed_changes": f"{kind[:-1]}.{property_}"}
    async with hub_of(hubspot, settings, work=True) as (hub, sandbox):
        assert isinstance(sandbox, HubspotSandbox)
        place, portal, at_ms = Place(hub, sandbox), sandbox.portal(PORTAL), hub.clock.now_ms()
        told = portal.make(kind, changed, at_ms)
        # Of another record no webhook tells.
        portal.make(kind, {**changed, **({"email": "bob@example.test"} if kind == "contacts" else {})}, at_ms)
        change = telling.event(
            PORTAL,
            f"{kind[:-1]}.propertyChange",
            7,
            at_ms,
            objectId=int(told.id),
            propertyName=property_,
            propertyValue=value,
        )
        assert await place.send([change]) == 200
        assert len(await place.events()) == 1
        await poll(hub, name)
        found = await place.events()
    assert [one["type"] for one in found] == [f"hubspot.{name}"] * 2


async def poll(hub: Hub, name: str) -> None:
    """Let the hub ask from the beginning, as it does by itself."""
    data = to_json({"cursor": None, "since_ms": hubspot.polls[name].overlap_s * 1000}).decode()
    lane = Lane(connection="hubspot", rank=Rank.BULK)
    row = {"kind": "poll", "ref": f"hubspot|hubspot.{name}", "queue": str(lane), "due_at": hub.clock.now_ms()}
    async with hub.store.write() as c:
        await work.put(c, [{**row, "data": data}])
    await hub.time.advance(hub.clock.now_ms() + 60_000, ring=hub.ring)


def test_created_contacts_are_the_same_fact_from_webhook_and_poll() -> None:
    trigger = hubspot.triggers["contact_created"]
    told = ContactCreated.model_validate({"portalId": PORTAL, "occurredAt": 1, "objectId": "5"})
    polled = ContactCreated.model_validate({"portal_id": PORTAL, "occurred_at": "2026-01-01T00:00:00Z", "objectId": 5})
    assert trigger.fact(told) == trigger.fact(polled)
