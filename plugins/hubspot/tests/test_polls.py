"""What is asked for: forms, e-mails, lists, new contacts and tickets, and the past of each."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from hub import ActionContext, ConsentSignal, ConsentState, Rejected
from hub_hubspot import hubspot, reading
from hub_hubspot.reading import ENDED
from hub_hubspot.sandbox import HubspotSandbox, Portal, crm
from hub_hubspot.sandbox.portal import ListOf, Refusal
from hub_hubspot.triggers import lists

ContextMaker = Callable[..., AbstractAsyncContextManager[ActionContext]]
NOW, MINUTE = 1_795_170_000_000, 60_000
# Kinds of records, the trigger of their changes, and a property that changes.
CHANGING = [
    ("deals", "deal_stage_changed", "dealstage"),
    ("tickets", "ticket_changed", "hs_pipeline_stage"),
    ("contacts", "contact_changed", "city"),
]
REQUIRED = {
    "deals": {"dealname": "Boat", "dealstage": "new"},
    "tickets": {"subject": "Leak", "hs_pipeline_stage": "new"},
    "contacts": {"email": "ada@example.test", "city": "new"},
}


async def polled(ctx: ActionContext, name: str, since_ms: int = 0, cursor: str | None = None) -> list[Any]:
    """Everything that a poll finds."""
    return [item async for page in hubspot.polls[name].fetch(ctx, cursor, since_ms) for item in page.items]


async def past(
    ctx: ActionContext, name: str, since_ms: int = 0, cursor: str | None = None
) -> list[tuple[str, list[Any]]]:
    """Every page of a history: its cursor and its items."""
    return [(page.cursor, list(page.items)) async for page in hubspot.histories[name].fetch(ctx, cursor, since_ms)]


def submit(portal: Portal, form: int, number: int, at_ms: int, **values: Any) -> None:
    pairs = [(n, one) for n, value in values.items() for one in (value if isinstance(value, list) else [value])]
    id_ = f"f0000000-0000-4000-8000-{form:012}"
    portal.submissions.setdefault(id_, []).append(
        {
            "conversionId": f"s-{form}-{number}",
            "submittedAt": at_ms,
            "pageUrl": "https://www.example.test/demo",
            "values": [{"name": name, "value": value} for name, value in pairs],
        }
    )


# -- forms -------------------------------------------------------------------------------------------------------------


async def test_submissions_of_all_types_of_forms_are_told_oldest_first(portal: Portal, context: ContextMaker) -> None:
    for form in range(3):
        for number in range(3):
            submit(portal, form, number, NOW + number, email="ada@example.test", topics=["News", "Offers"])
    async with context() as ctx:
        found = await polled(ctx, "form_submitted")
    assert [one.submission_id for one in found] == [f"s-{form}-{number}" for form in range(3) for number in range(3)]
    assert {one.form_type for one in found} == {"hubspot", "captured", "flow"}
    assert found[0].fields == {"email": "ada@example.test", "topics": ["News", "Offers"]}
    assert hubspot.triggers["form_submitted"].event(found[0], 0).subject.email == "ada@example.test"


async def test_only_what_is_new_is_read_of_a_form(portal: Portal, context: ContextMaker, witness: Any) -> None:
    for number in range(200):
        submit(portal, 0, number, NOW + number * MINUTE)
    async with context({"watched_forms": "f0000000-0000-4000-8000-000000000000"}) as ctx:
        found = await polled(ctx, "form_submitted", NOW + 120 * MINUTE)
    assert [one.submission_id for one in found] == [f"s-0-{number}" for number in range(120, 200)]
    # Two pages of fifty, and the list of forms.
    assert len(witness.requests) == 3


async def test_more_forms_than_a_page_are_all_asked(portal: Portal, context: ContextMaker) -> None:
    portal.forms = [{"id": f"{n:036}", "formType": "hubspot", "name": f"F{n}"} for n in range(501)]
    portal.submissions[f"{500:036}"] = [{"conversionId": "last", "submittedAt": NOW, "values": []}]
    async with context({"watched_forms": f"{500:036}"}) as ctx:
        [found] = await polled(ctx, "form_submitted")
    assert (found.submission_id, found.email, found.page_url) == ("last", None, None)


async def test_a_watched_form_that_is_not_there_is_said(
    context: ContextMaker, caplog: pytest.LogCaptureFixture
) -> None:
    gone = f"{7:036}"
    async with context({"watched_forms": f"{gone},f0000000-0000-4000-8000-000000000000"}) as ctx:
        with caplog.at_level(logging.WARNING):
            assert await polled(ctx, "form_submitted") == []
    assert [record.__dict__["forms"] for record in caplog.records] == [[gone]]


@pytest.mark.parametrize(
    "refusal", [Refusal(404, "OBJECT_NOT_FOUND", "gone"), Refusal(400, "FORM_TYPE_NOT_ALLOWED", "new")]
)
async def test_a_form_that_tells_nothing_is_said_and_stops_no_other(
    refusal: Refusal,
    portal: Portal,
    context: ContextMaker,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for form in range(3):
        submit(portal, form, 0, NOW)
    telling = Portal.told_by

    def told_by(self: Portal, form: Any) -> Any:
        if form["id"].endswith("1"):
            raise refusal
        return telling(self, form)

    monkeypatch.setattr(Portal, "told_by", told_by)
    async with context() as ctx:
        with caplog.at_level(logging.WARNING):
            found = await polled(ctx, "form_submitted")
        past_ones = [one for _, items in await past(ctx, "form_submitted") for one in items]
    assert [one.submission_id for one in found] == [one.submission_id for one in past_ones] == ["s-0-0", "s-2-0"]
    assert [record.__dict__["forms"] for record in caplog.records] == [[f"f0000000-0000-4000-8000-{1:012}"]] * 2


async def test_a_token_without_the_scope_of_forms_is_no_form_that_tells_nothing(
    portal: Portal, context: ContextMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told_by(self: Portal, form: Any) -> Any:
        raise Refusal(403, "MISSING_SCOPES", "forms")

    monkeypatch.setattr(Portal, "told_by", told_by)
    async with context() as ctx:
        with pytest.raises(Rejected, match="lacks a scope"):
            await polled(ctx, "form_submitted")


async def test_the_past_of_forms_goes_on_at_any_page(portal: Portal, context: ContextMaker) -> None:
    for form in range(2):
        for number in range(120):
            submit(portal, form, number, NOW + number)
    async with context() as ctx:
        pages = await past(ctx, "form_submitted", NOW + 10)
        everything = [one.submission_id for _, items in pages for one in items]
        assert sorted(everything) == sorted(f"s-{form}-{n}" for form in range(2) for n in range(10, 120))
        for place, (cursor, _) in enumerate(pages):
            rest = [
                one.submission_id for _, items in await past(ctx, "form_submitted", NOW + 10, cursor) for one in items
            ]
            assert rest == [one.submission_id for _, items in pages[place + 1 :] for one in items]
    assert pages[-1][0] == ENDED


# -- e-mails -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trigger", "type_", "reason"),
    [
        ("email_opened", "OPEN", None),
        ("email_clicked", "CLICK", None),
        ("email_bounced", "BOUNCE", "bounce"),
        ("email_reported", "SPAMREPORT", "complaint"),
    ],
)
async def test_each_kind_of_e_mail_event_is_its_own_trigger(
    trigger: str, type_: str, reason: str | None, sandbox: HubspotSandbox, portal: Portal, context: ContextMaker
) -> None:
    for one in ("OPEN", "CLICK", "BOUNCE", "SPAMREPORT", "DELIVERED", "DEFERRED"):
        await sandbox.email_event(portal, one, "ada@example.test", sentBy={"id": "sent-1", "created": 1})
    async with context() as ctx:
        [found] = await polled(ctx, trigger)
    event = hubspot.triggers[trigger].event(found, 0)
    expected = (ConsentSignal("email", "ada@example.test", ConsentState.BLOCKED, reason),) if reason else ()
    assert event.consents == expected
    assert event.correlate == {"campaign_id": "4126643121", "sent_event_id": "sent-1", "email": "ada@example.test"}


async def test_bounces_block_nobody_where_the_setting_says_so(
    sandbox: HubspotSandbox, portal: Portal, context: ContextMaker
) -> None:
    await sandbox.email_event(portal, "BOUNCE", "ada@example.test")
    await sandbox.email_event(portal, "SPAMREPORT", "ada@example.test")
    async with context({"bounces_block": "no"}) as ctx:
        [bounced] = await polled(ctx, "email_bounced")
        [reported] = await polled(ctx, "email_reported")
    assert (bounced.blocks, reported.blocks) == (False, True)


async def test_e_mail_events_are_read_to_the_last_page(
    sandbox: HubspotSandbox, portal: Portal, context: ContextMaker
) -> None:
    for number in range(2500):
        await sandbox.email_event(portal, "OPEN", f"p{number}@example.test")
    async with context() as ctx:
        found = await polled(ctx, "email_opened")
    assert len({one.event_id for one in found}) == 2500


# -- lists -------------------------------------------------------------------------------------------------------------


def fill(portal: Portal, count: int, list_id: str = "31") -> list[str]:
    ids = [portal.make("contacts", {"email": f"p{n}@example.test"}, 0).id for n in range(count)]
    portal.lists[list_id] = ListOf(list_id, "Newsletter", members={id_: NOW + n for n, id_ in enumerate(ids)})
    return ids


async def test_who_joined_since_is_told_with_who_they_are(portal: Portal, context: ContextMaker) -> None:
    ids = fill(portal, 600)
    async with context({"watched_lists": "31"}) as ctx:
        found = await polled(ctx, "list_joined", NOW + 300)
    assert [one.contact_id for one in found] == ids[300:]
    assert found[0].email == "p300@example.test"
    assert found[0].list_name == "Newsletter"


async def test_who_left_is_told_once_by_the_comparison_with_before(portal: Portal, context: ContextMaker) -> None:
    ids = fill(portal, 300)
    async with context({"watched_lists": "31"}) as ctx:
        [first] = [page async for page in lists.recent_leaves.fetch(ctx, None, 0)]
        assert first.items == []
        for gone in ids[:2]:
            del portal.lists["31"].members[gone]
        [second] = [page async for page in lists.recent_leaves.fetch(ctx, first.cursor, 0)]
        [third] = [page async for page in lists.recent_leaves.fetch(ctx, second.cursor, 0)]
    assert sorted(one.contact_id for one in second.items) == ids[:2]
    assert second.items[0].email == "p0@example.test"
    assert third.items == []


async def test_who_leaves_comes_back_and_leaves_again_has_left_twice(portal: Portal, context: ContextMaker) -> None:
    [ada] = fill(portal, 1)
    facts, cursor = [], None
    async with context({"watched_lists": "31"}) as ctx:
        for joined in (NOW, None, NOW + 5, None):
            portal.lists["31"].members = {ada: joined} if joined else {}
            async for page in lists.recent_leaves.fetch(ctx, cursor, 0):
                facts += [hubspot.triggers["list_left"].event(one, 0).fact_id for one in page.items]
                cursor = page.cursor
    assert facts == [f"list_left:31:{ada}:{NOW}", f"list_left:31:{ada}:{NOW + 5}"]


async def test_a_member_that_a_page_missed_has_not_left(
    portal: Portal, context: ContextMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = fill(portal, 2)
    async with context({"watched_lists": "31"}) as ctx:
        [first] = [page async for page in lists.recent_leaves.fetch(ctx, None, 0)]
        readings = iter([{ids[0]: NOW}, {ids[0]: NOW, ids[1]: NOW + 1}])

        async def reading_of(*_: Any) -> dict[str, int]:
            return next(readings)

        monkeypatch.setattr(lists, "_all_members", reading_of)
        [second] = [page async for page in lists.recent_leaves.fetch(ctx, first.cursor, 0)]
    assert second.items == []
    assert set(lists.remembered(second.cursor)["31"]) == set(ids)


async def test_lists_that_are_gone_or_too_large_are_left_out_and_said(
    portal: Portal, context: ContextMaker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lists, "MOST_MEMBERS", 10)
    fill(portal, 11)
    fill_other = ListOf("33", "Small", members={portal.make("contacts", {"email": "z@example.test"}, 0).id: NOW})
    portal.lists["33"] = fill_other
    async with context({"watched_lists": "31, 404, 33"}) as ctx:
        with caplog.at_level(logging.WARNING):
            [page] = [page async for page in lists.recent_leaves.fetch(ctx, None, 0)]
    assert set(lists.remembered(page.cursor)) == {"33"}
    assert {record.__dict__["list"] for record in caplog.records} == {"31", "404"}


@pytest.mark.parametrize("name", ["list_joined", "list_left"])
async def test_where_no_list_is_watched_nobody_is_asked(name: str, context: ContextMaker, portal: Portal) -> None:
    fill(portal, 1)
    async with context() as ctx:
        assert await polled(ctx, name) == []


async def test_a_list_that_is_no_longer_watched_is_forgotten(portal: Portal, context: ContextMaker) -> None:
    fill(portal, 1)
    cursor = lists.remember({"99": {"1": NOW}, "31": {}})
    async with context({"watched_lists": "31"}) as ctx:
        [page] = [page async for page in lists.recent_leaves.fetch(ctx, cursor, 0)]
    assert set(lists.remembered(page.cursor)) == {"31"}


def test_ten_thousand_members_are_remembered_in_little_room() -> None:
    members = {str(10_000_000 + 7 * n): NOW + 977 * n for n in range(10_000)}
    cursor = lists.remember({"31": members})
    assert lists.remembered(cursor) == {"31": members}
    assert len(cursor) < 150_000


# -- contacts, tickets, deals ------------------------------------------------------------------------------------------


async def test_contacts_that_no_webhook_told_of_are_found(portal: Portal, context: ContextMaker) -> None:
    for n in range(450):
        portal.make("contacts", {"email": f"p{n}@example.test"}, NOW + n)
    async with context() as ctx:
        found = await polled(ctx, "contact_created", NOW + 1)
    assert [one.email for one in found] == [f"p{n}@example.test" for n in range(1, 450)]
    assert hubspot.triggers["contact_created"].event(found[0], 0).account == "62515"


async def test_a_search_that_lags_is_made_up_for_by_the_overlap(
    sandbox: HubspotSandbox, portal: Portal, context: ContextMaker
) -> None:
    now = sandbox.clock.now_ms()
    sandbox.search_lag_ms = 10 * MINUTE
    portal.make("contacts", {"email": "ada@example.test"}, now)
    async with context() as ctx:
        assert await polled(ctx, "contact_created", now - MINUTE) == []
        sandbox.search_lag_ms = 0
        # The next poll begins before this one: as long as an index may take.
        poll = hubspot.polls["contact_created"]
        assert poll.overlap_s >= 3600
        assert len(await polled(ctx, "contact_created", now + poll.every_s * 1000 - poll.overlap_s * 1000)) == 1


async def test_more_than_a_search_gives_are_found_by_several(
    portal: Portal, context: ContextMaker, monkeypatch: pytest.MonkeyPatch, sandbox: HubspotSandbox
) -> None:
    monkeypatch.setattr(crm, "_WINDOW", 400)
    sandbox.limits = False
    for n in range(1000):
        portal.make("contacts", {"email": f"p{n}@example.test"}, NOW + n // 7)
    async with context() as ctx:
        found = await polled(ctx, "contact_created", NOW)
    assert [one.email for one in found] == [f"p{n}@example.test" for n in range(1000)]


async def test_more_of_one_instant_than_a_search_gives_are_found_by_their_ids(
    portal: Portal, context: ContextMaker, monkeypatch: pytest.MonkeyPatch, sandbox: HubspotSandbox
) -> None:
    monkeypatch.setattr(crm, "_WINDOW", 400)
    sandbox.limits = False
    imported = [portal.make("contacts", {"email": f"p{n}@example.test"}, NOW + 1).id for n in range(1000)]
    around = [
        portal.make("contacts", {"email": f"{who}@example.test"}, at).id for who, at in (("a", NOW), ("b", NOW + 2))
    ]
    async with context() as ctx:
        found = await polled(ctx, "contact_created", NOW)
    assert {one.contact_id for one in found} == {*imported, *around}
    # Only those of the page by which the instant was noticed are told twice.
    assert len(found) <= 1002 + 200


@pytest.mark.parametrize("name", ["contact_changed", "email_unsubscribed"])
async def test_who_changes_while_pages_are_read_pushes_nobody_out(
    name: str, portal: Portal, context: ContextMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = {"city": "Izmir", "hs_email_optout": "true"}
    rows = [portal.make("contacts", {"email": f"p{n}@example.test", **changed}, NOW + n) for n in range(450)]
    find, asked = reading.search, 0

    async def meanwhile(*given: Any, **more: Any) -> Any:
        nonlocal asked
        page, asked = await find(*given, **more), asked + 1
        if asked == 1:
            for row in rows[:3]:
                portal.change("contacts", row, {"company": "Boats"}, NOW + 1000)
        return page

    monkeypatch.setattr(reading, "search", meanwhile)
    async with context({"missed_changes": "contact.city"}) as ctx:
        found = await polled(ctx, name, NOW)
    assert {one.email for one in found} == {f"p{n}@example.test" for n in range(450)}


async def test_of_changed_tickets_only_the_new_ones_are_told(portal: Portal, context: ContextMaker) -> None:
    ada = portal.make("contacts", {"email": "ada@example.test"}, 0)
    old = portal.make("tickets", {"subject": "Old", "hs_pipeline_stage": "1"}, NOW - MINUTE)
    new = portal.make("tickets", {"subject": "New", "hs_pipeline_stage": "1"}, NOW + MINUTE)
    portal.change("tickets", old, {"subject": "Older"}, NOW + MINUTE)
    portal.join("tickets", new.id, "contacts", ada.id)
    async with context() as ctx:
        [found] = await polled(ctx, "ticket_created", NOW)
    assert (found.ticket_id, found.subject, found.email) == (new.id, "New", "ada@example.test")


# -- changes that no webhook told of -----------------------------------------------------------------------------------


async def test_stages_that_no_webhook_told_of_are_found(portal: Portal, context: ContextMaker) -> None:
    ada = portal.make("contacts", {"email": "ada@example.test"}, 0)
    boat = portal.make("deals", {"dealname": "Boat", "dealstage": "appointmentscheduled"}, NOW)
    portal.make("deals", {"dealname": "Sail", "dealstage": "771", "pipeline": "77"}, NOW + MINUTE)
    portal.change("deals", boat, {"dealstage": "closedwon"}, NOW + 2 * MINUTE)
    portal.join("deals", boat.id, "contacts", ada.id)
    async with context({"missed_changes": "deal.dealstage"}) as ctx:
        found = await polled(ctx, "deal_stage_changed", NOW)
    assert [(one.deal_name, one.stage, one.email) for one in found] == [
        ("Boat", "appointmentscheduled", "ada@example.test"),
        ("Sail", "771", None),
        ("Boat", "closedwon", "ada@example.test"),
    ]
    assert {(one.portal_id, one.source) for one in found} == {("62515", "CRM_UI")}
    assert found[2].occurred_at.timestamp() * 1000 == NOW + 2 * MINUTE


async def test_changes_of_tickets_that_no_webhook_told_of_are_found(portal: Portal, context: ContextMaker) -> None:
    ada = portal.make("contacts", {"email": "ada@example.test"}, 0)
    leak = portal.make("tickets", {"subject": "Leak", "hs_pipeline_stage": "1", "hs_pipeline": "0"}, NOW)
    portal.join("tickets", leak.id, "contacts", ada.id)
    portal.change("tickets", leak, {"hs_pipeline_stage": "4"}, NOW + MINUTE)
    portal.change("tickets", leak, {"hubspot_owner_id": "501", "subject": "Leaks"}, NOW + 2 * MINUTE)
    portal.change("tickets", leak, {"hubspot_owner_id": ""}, NOW + 3 * MINUTE)
    async with context({"missed_changes": "ticket.hs_pipeline_stage, ticket.hubspot_owner_id"}) as ctx:
        found = await polled(ctx, "ticket_changed", NOW + 1)
    assert [(one.property_name, one.property_value) for one in found] == [
        ("hs_pipeline_stage", "4"),
        ("hubspot_owner_id", "501"),
        ("hubspot_owner_id", ""),
    ]
    assert {(one.subject, one.stage, one.email) for one in found} == {("Leaks", "4", "ada@example.test")}


async def test_changes_of_contacts_are_those_of_the_named_properties(portal: Portal, context: ContextMaker) -> None:
    ada = portal.make("contacts", {"email": "ada@example.test"}, 0)
    bob = portal.make("contacts", {"email": "bob@example.test"}, 0)
    portal.change("contacts", ada, {"city": "Izmir", "company": "Boats"}, NOW)
    portal.change("contacts", bob, {"firstname": "Bob"}, NOW)
    async with context({"missed_changes": "contact.city", "contact_properties": "company"}) as ctx:
        [found] = await polled(ctx, "contact_changed", NOW)
    assert (found.email, found.property_name, found.property_value) == ("ada@example.test", "city", "Izmir")
    assert found.properties == {"company": "Boats"}


async def test_who_unsubscribed_is_found_though_no_webhook_told_it(portal: Portal, context: ContextMaker) -> None:
    ada, bob, joe = (portal.make("contacts", {"email": f"{who}@example.test"}, NOW - 2 * MINUTE) for who in "abj")
    portal.change("contacts", bob, {"hs_email_optout": "true"}, NOW - MINUTE)
    portal.change("contacts", ada, {"hs_email_optout": "true"}, NOW)
    portal.change("contacts", joe, {"hs_email_optout": "true"}, NOW)
    portal.change("contacts", joe, {"hs_email_optout": "false"}, NOW + 1)
    # Bob left before, and something else of his has changed.
    portal.change("contacts", bob, {"city": "Izmir"}, NOW)
    async with context({}) as ctx:
        [found] = await polled(ctx, "email_unsubscribed", NOW)
    assert (found.email, found.property_name, found.property_value) == ("a@example.test", "hs_email_optout", "true")
    [signal] = hubspot.triggers["email_unsubscribed"].consent(found)
    assert (signal.address, signal.state) == ("a@example.test", ConsentState.REVOKED)


@pytest.mark.parametrize(("kind", "name", "property_"), CHANGING)
async def test_what_changed_before_is_not_told_by_what_changes_later(
    kind: str, name: str, property_: str, portal: Portal, context: ContextMaker
) -> None:
    row = portal.make(kind, REQUIRED[kind], NOW - 2 * MINUTE)
    portal.change(kind, row, {property_: "early"}, NOW - MINUTE)
    portal.change(kind, row, {"hubspot_owner_id": "501"}, NOW)
    async with context({"missed_changes": f"{kind[:-1]}.{property_}"}) as ctx:
        assert await polled(ctx, name, NOW) == []
        assert len(await polled(ctx, name, NOW - MINUTE)) == 1


@pytest.mark.parametrize(("kind", "name", "property_"), CHANGING)
async def test_where_no_change_of_a_kind_is_asked_for_nothing_is_asked(
    kind: str, name: str, property_: str, portal: Portal, context: ContextMaker, witness: Any
) -> None:
    portal.make(kind, REQUIRED[kind], NOW)
    others = ",".join(f"{other[:-1]}.{changed}" for other, _, changed in CHANGING if other != kind)
    for settings in ({}, {"missed_changes": others}):
        async with context(settings) as ctx:
            assert await polled(ctx, name) == []
    assert witness.requests == []


async def test_missed_changes_take_one_search_and_a_call_for_fifty_records(
    portal: Portal, context: ContextMaker, witness: Any
) -> None:
    for n in range(120):
        portal.make("contacts", {"email": f"p{n}@example.test", "city": "Izmir"}, NOW + n)
    async with context({"missed_changes": "contact.city"}) as ctx:
        found = await polled(ctx, "contact_changed", NOW)
    assert [one.email for one in found] == [f"p{n}@example.test" for n in range(120)]
    asked = [request.path.rpartition("/contacts/")[2] for request in witness.requests]
    assert asked == ["search", "batch/read", "batch/read", "batch/read"]
    assert [len(request.body["inputs"]) for request in witness.requests[1:]] == [50, 50, 20]


async def test_a_record_that_went_between_search_and_reading_is_left_out(
    sandbox: HubspotSandbox, portal: Portal, context: ContextMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = portal.make("contacts", {"email": "ada@example.test", "city": "Izmir"}, NOW)
    portal.make("contacts", {"email": "bob@example.test", "city": "Bursa"}, NOW)
    read = reading.read_records

    async def later(*given: Any, **more: Any) -> Any:
        portal.rows["contacts"].pop(ada.id, None)
        return await read(*given, **more)

    monkeypatch.setattr(reading, "read_records", later)
    async with context({"missed_changes": "contact.city"}) as ctx:
        assert [one.email for one in await polled(ctx, "contact_changed", NOW)] == ["bob@example.test"]


# -- the past ----------------------------------------------------------------------------------------------------------


async def test_the_past_of_contacts_goes_on_at_any_page(portal: Portal, context: ContextMaker) -> None:
    for n in range(250):
        portal.make("contacts", {"email": f"p{n}@example.test"}, NOW + n)
    async with context() as ctx:
        pages = await past(ctx, "contact_created", NOW + 50)
        rest = await past(ctx, "contact_created", NOW + 50, pages[0][0])
        assert await past(ctx, "contact_created", NOW + 50, pages[-1][0]) == []
    assert [len(items) for _, items in pages] == [50, 100, 50]
    assert rest == pages[1:]


async def test_the_past_of_deals_is_every_stage_they_came_into(portal: Portal, context: ContextMaker) -> None:
    ada = portal.make("contacts", {"email": "ada@example.test"}, 0)
    deal = portal.make("deals", {"dealname": "Boat", "dealstage": "appointmentscheduled"}, NOW)
    portal.change("deals", deal, {"dealstage": "closedwon"}, NOW + MINUTE)
    portal.join("deals", deal.id, "contacts", ada.id)
    async with context() as ctx:
        [(cursor, items)] = await past(ctx, "deal_stage_changed", NOW)
        [(_, later)] = await past(ctx, "deal_stage_changed", NOW + 1)
    assert cursor == ENDED
    assert [(one.stage, one.email) for one in items] == [
        ("closedwon", "ada@example.test"),
        ("appointmentscheduled", "ada@example.test"),
    ]
    assert [one.stage for one in later] == ["closedwon"]


async def test_the_past_of_tickets_goes_on_at_any_page(portal: Portal, context: ContextMaker) -> None:
    ada = portal.make("contacts", {"email": "ada@example.test"}, 0)
    for n in range(150):
        ticket = portal.make("tickets", {"subject": f"T{n}", "hs_pipeline_stage": "1"}, NOW + n)
        portal.join("tickets", ticket.id, "contacts", ada.id)
    async with context() as ctx:
        pages = await past(ctx, "ticket_created", NOW + 50)
        assert await past(ctx, "ticket_created", NOW + 50, pages[0][0]) == pages[1:]
    assert [len(items) for _, items in pages] == [50, 50]
    assert {(one.email, one.stage) for _, items in pages for one in items} == {("ada@example.test", "1")}


async def test_the_past_of_unsubscribing_is_who_is_unsubscribed_now(portal: Portal, context: ContextMaker) -> None:
    rows = [portal.make("contacts", {"email": f"p{n}@example.test"}, 0) for n in range(120)]
    for row in rows[::2]:
        portal.change("contacts", row, {"hs_email_optout": "true"}, NOW)
    portal.change("contacts", rows[0], {"hs_email_optout": "false"}, NOW + MINUTE)
    portal.change("contacts", rows[1], {"hs_email_optout": "true"}, NOW - MINUTE)
    async with context() as ctx:
        pages = await past(ctx, "email_unsubscribed", NOW)
        assert await past(ctx, "email_unsubscribed", NOW, pages[0][0]) == pages[1:]
        told = [one for _, items in pages for one in items]
        assert {one.email for one in told} == {f"p{n}@example.test" for n in range(2, 120, 2)}
        [signal] = hubspot.triggers["email_unsubscribed"].consent(told[0])
        assert signal.state == ConsentState.REVOKED
        portal.change("contacts", rows[2], {"city": "Izmir"}, NOW + MINUTE)
        polled_ones = await polled(ctx, "email_unsubscribed", NOW)
    fact = hubspot.triggers["email_unsubscribed"].fact
    assert {fact(one) for one in polled_ones} == {fact(one) for one in told}


@pytest.mark.parametrize("name", ["email_opened", "email_clicked", "email_bounced", "email_reported"])
async def test_the_past_of_e_mails_goes_on_at_any_page_whatever_comes_meanwhile(
    name: str, sandbox: HubspotSandbox, portal: Portal, context: ContextMaker
) -> None:
    type_ = {"email_opened": "OPEN", "email_clicked": "CLICK", "email_bounced": "BOUNCE"}.get(name, "SPAMREPORT")
    sandbox.clock.offset_ms -= 10 * MINUTE
    for number in range(2100):
        await sandbox.email_event(portal, type_, f"p{number}@example.test")
    sandbox.clock.offset_ms += 10 * MINUTE
    async with context() as ctx:
        pages = await past(ctx, name)
        for number in range(5):
            await sandbox.email_event(portal, type_, f"new{number}@example.test")
    async with context() as ctx:
        rest = await past(ctx, name, 0, pages[0][0])
        assert await past(ctx, name, 0, pages[-1][0]) == []
    assert rest == pages[1:]
    assert len({one.event_id for _, items in pages for one in items}) == 2100


async def test_the_past_of_lists_is_who_joined_and_is_still_there(portal: Portal, context: ContextMaker) -> None:
    fill(portal, 600)
    portal.lists["7"] = ListOf("7", "Old", members={next(iter(portal.lists["31"].members)): NOW})
    async with context({"watched_lists": "7, 31"}) as ctx:
        pages = await past(ctx, "list_joined", NOW + 100)
        for place, (cursor, _) in enumerate(pages):
            assert await past(ctx, "list_joined", NOW + 100, cursor) == pages[place + 1 :]
    told = [one for _, items in pages for one in items]
    assert {(one.list_id, one.email) for one in told} == {("31", f"p{n}@example.test") for n in range(100, 600)}
    assert pages[-1][0] == ENDED
