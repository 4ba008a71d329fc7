"""What is done at HubSpot: each action against the sandbox, its refusals, and what a look-up finds afterwards."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from hub import (
    ActionContext,
    ConnectorError,
    ConsentSignal,
    ConsentState,
    NotFound,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    SkipStep,
)
from hub.http import Answer
from hub_hubspot import hubspot
from hub_hubspot.actions import emails, making
from hub_hubspot.actions.fields import texts
from hub_hubspot.sandbox import HubspotSandbox, Portal

ContextMaker = Callable[..., AbstractAsyncContextManager[ActionContext]]


async def do(ctx: ActionContext, name: str, /, **given: Any) -> Any:
    """Run an action with what a step would give it."""
    action = hubspot.actions[name]
    return await action.run(ctx, action.input.model_validate(given))


async def look(ctx: ActionContext, name: str, /, **given: Any) -> Any:
    """Look for what an earlier attempt did."""
    action = hubspot.actions[name]
    assert action.lookup_
    return await action.lookup_(ctx, action.input.model_validate(given))


async def batch(ctx: ActionContext, name: str, given: list[dict[str, Any]]) -> list[Any]:
    action = hubspot.actions[name]
    assert action.run_batch
    assert action.batch
    assert len(given) <= action.batch.size
    return list(await action.run_batch(ctx, [action.input.model_validate(one) for one in given]))


def calls_of(sandbox: HubspotSandbox, operation: str) -> list[Mapping[str, Any]]:
    return [entry.data for entry in sandbox.log if entry.operation == operation]


@pytest.fixture
def ada(portal: Portal) -> Any:
    return portal.make("contacts", {"email": "ada@example.test", "lifecyclestage": "lead"}, 0)


# -- upsert ------------------------------------------------------------------------------------------------------------


async def test_a_thousand_people_take_ten_calls(
    sandbox: HubspotSandbox, portal: Portal, context: ContextMaker, witness: Any
) -> None:
    people = [{"email": f"p{n}@example.test", "first_name": f"P{n}"} for n in range(1000)]
    size = hubspot.actions["upsert_contact"].batch
    assert size
    async with context() as ctx:
        found = [
            one
            for start in range(0, 1000, size.size)
            for one in await batch(ctx, "upsert_contact", people[start : start + size.size])
        ]
    assert len(witness.requests) == 10
    assert len(portal.rows["contacts"]) == 1000
    assert all(one.created for one in found)
    assert [portal.rows["contacts"][one.contact_id].properties["firstname"] for one in found] == [
        f"P{n}" for n in range(1000)
    ]


async def test_who_is_there_already_is_changed(portal: Portal, context: ContextMaker, ada: Any) -> None:
    async with context() as ctx:
        found = await do(ctx, "upsert_contact", email="ADA@example.test", properties={"city": "Izmir", "company": None})
    assert (found.contact_id, found.created) == (ada.id, False)
    assert ada.properties["city"] == "Izmir"


async def test_each_person_of_a_batch_has_an_outcome_of_their_own(portal: Portal, context: ContextMaker) -> None:
    people = [
        {"email": "a@example.test"},
        {"email": "no-address@nowhere"},
        {"email": "b@example.test", "properties": {"shoe_size": "37"}},
        {"email": "c@example.test"},
    ]
    async with context() as ctx:
        found = await batch(ctx, "upsert_contact", people)
    assert [type(one).__name__ for one in found] == ["UpsertOutput", "Rejected", "Rejected", "UpsertOutput"]
    assert all("example" not in str(one) and "nowhere" not in str(one) for one in found[1:3])
    assert len(portal.rows["contacts"]) == 2


async def test_somebody_who_is_named_twice_takes_a_second_call_and_the_later_wins(
    portal: Portal, context: ContextMaker, witness: Any
) -> None:
    people = [
        {"email": "a@example.test", "first_name": "Old", "properties": {"city": "Izmir"}},
        {"email": "b@example.test"},
        {"email": "A@example.test", "first_name": "New"},
    ]
    async with context() as ctx:
        [first, _, again] = await batch(ctx, "upsert_contact", people)
    assert (first.contact_id, first.created, again.created) == (again.contact_id, True, False)
    assert portal.rows["contacts"][first.contact_id].properties["firstname"] == "New"
    assert portal.rows["contacts"][first.contact_id].properties["city"] == "Izmir"
    assert len(witness.requests) == 2


async def test_a_contact_of_whom_the_answer_says_nothing_is_unknown(context: ContextMaker) -> None:
    class Silent:
        async def request(self, method: str, path: str, **_: Any) -> Answer:
            return Answer(200, {}, b'{"status": "COMPLETE", "results": [], "errors": []}')

    async with context() as ctx:
        [found] = await batch(replace(ctx, http=Silent()), "upsert_contact", [{"email": "a@example.test"}])
    assert isinstance(found, OutcomeUnknown)


def test_values_are_sent_as_text() -> None:
    action = hubspot.actions["update_contact"]
    given = action.input.model_validate(
        {"contact": "1", "properties": {"a": True, "b": 1.5, "c": "", "d": None, "e": 7}}
    )
    assert texts(given.properties) == {"a": "true", "b": "1.5", "c": "", "e": "7"}


@pytest.mark.parametrize("contact", ["", "ada", "a b@example.test", "1/../2", "a@b@c.test"])
def test_a_contact_is_named_by_id_or_address(contact: str) -> None:
    with pytest.raises(ValidationError):
        hubspot.actions["update_contact"].input.model_validate({"contact": contact, "properties": {"a": "b"}})


async def test_properties_are_set_by_id_or_address(context: ContextMaker, ada: Any) -> None:
    async with context() as ctx:
        assert (await do(ctx, "update_contact", contact=ada.id, properties={"city": "Izmir"})).contact_id == ada.id
        await do(ctx, "update_contact", contact="ada@example.test", properties={"city": ""})
        with pytest.raises(NotFound):
            await do(ctx, "update_contact", contact="nobody@example.test", properties={"city": "x"})
        with pytest.raises(Rejected, match="about shoe_size"):
            await do(ctx, "update_contact", contact=ada.id, properties={"shoe_size": "37"})
    assert ada.properties["city"] == ""


# -- life-cycle stage --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stage", "backward", "expected"),
    [
        ("customer", False, ("customer", True)),
        ("lead", False, ("lead", True)),
        ("subscriber", False, ("lead", False)),
        ("subscriber", True, ("subscriber", True)),
    ],
)
async def test_a_stage_moves_forward_and_backward_only_where_that_is_allowed(
    stage: str, backward: bool, expected: tuple[str, bool], context: ContextMaker, ada: Any
) -> None:
    async with context() as ctx:
        for _ in range(2):
            found = await do(ctx, "move_lifecycle_stage", contact="ada@example.test", stage=stage, backward=backward)
            assert (found.stage, found.moved) == expected
    assert ada.properties["lifecyclestage"] == expected[0]


# -- owners ------------------------------------------------------------------------------------------------------------


async def test_an_owner_is_named_by_id_or_address(context: ContextMaker, ada: Any) -> None:
    async with context() as ctx:
        by_address = await do(ctx, "assign_owner", record=ada.id, owner="Owner2@example.test")
        assert (by_address.owner_id, ada.properties["hubspot_owner_id"]) == ("502", "502")
        assert (await do(ctx, "assign_owner", record="ada@example.test", owner="501")).owner_id == "501"
        with pytest.raises(NotFound, match="owner"):
            await do(ctx, "assign_owner", record=ada.id, owner="nobody@example.test")


async def test_the_people_of_a_team_take_turns_in_the_order_of_their_ids(
    portal: Portal, context: ContextMaker, ada: Any
) -> None:
    # (ids are numbers: the thousandth owner comes after the 503rd)
    portal.owners[1]["id"] = "1000"
    asked: list[str] = []
    for place in range(4):

        async def rota(name: str, place: int = place) -> int:
            asked.append(name)
            return place

        async with context(rota=rota) as ctx:
            found = await do(ctx, "assign_owner", record=ada.id, team="9")
        assert found.owner_id == ada.properties["hubspot_owner_id"] == ["503", "1000"][place % 2]
    assert asked == ["team 9"] * 4


async def test_archived_owners_queues_and_empty_teams_get_nothing(
    portal: Portal, context: ContextMaker, ada: Any
) -> None:
    portal.owners[1]["archived"] = True
    portal.owners[2]["type"] = "QUEUE"
    async with context() as ctx:
        with pytest.raises(NotFound, match="team"):
            await do(ctx, "assign_owner", record=ada.id, team="9")


async def test_deals_and_tickets_have_owners_too(portal: Portal, context: ContextMaker) -> None:
    deal = portal.make("deals", {"dealname": "Boat", "dealstage": "closedwon"}, 0)
    async with context() as ctx:
        await do(ctx, "assign_owner", record=deal.id, kind="deals", owner="501")
    assert deal.properties["hubspot_owner_id"] == "501"


@pytest.mark.parametrize(
    "given",
    [
        {"record": "1"},
        {"record": "1", "owner": "1", "team": "9"},
        {"record": "ada@example.test", "kind": "deals", "owner": "1"},
    ],
)
def test_an_assignment_names_one_record_and_either_owner_or_team(given: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        hubspot.actions["assign_owner"].input.model_validate(given)


# -- what has no natural key -------------------------------------------------------------------------------------------

_MADE: dict[str, tuple[str, dict[str, str]]] = {
    "create_note": ("notes", {"body": "Called back"}),
    "create_task": ("tasks", {"subject": "Call back"}),
    "create_ticket": ("tickets", {"subject": "Late parcel"}),
    "create_deal": ("deals", {"name": "Renewal", "stage": "closedwon"}),
}


@pytest.mark.parametrize("name", _MADE)
@pytest.mark.parametrize("settings", [{}, {"reference_property": "hub_reference"}], ids=["by name", "by property"])
async def test_what_was_made_is_found_again_and_nothing_else(
    name: str, settings: dict[str, str], context: ContextMaker, ada: Any
) -> None:
    given = {"contact": "ada@example.test", **_MADE[name][1]}
    async with context(settings, reference="run-1") as ctx:
        assert await look(ctx, name, **given) is None
        made = await do(ctx, name, **given)
        assert await look(ctx, name, **given) == made
    async with context(settings, reference="run-2") as ctx:
        assert await look(ctx, name, **given) is None


@pytest.mark.parametrize("name", _MADE)
async def test_what_is_made_belongs_to_the_contact_by_hubspots_own_type(
    name: str, sandbox: HubspotSandbox, portal: Portal, context: ContextMaker, ada: Any, facts: dict[str, Any]
) -> None:
    kind, given = _MADE[name]
    async with context() as ctx:
        await do(ctx, name, contact="ada@example.test", **given)
        with pytest.raises(NotFound):
            await do(ctx, name, contact="404", **given)
    [made] = calls_of(sandbox, f"create_{kind}")
    [association] = made["associations"]
    assert association["to"]["id"] == ada.id
    assert association["types"][0]["associationTypeId"] == facts["association_types"][f"{kind[:-1]}_to_contact"]
    assert portal.pairs[("contacts", ada.id, kind)] == [made["id"]]


async def test_a_reference_goes_where_the_connection_says(
    sandbox: HubspotSandbox, context: ContextMaker, ada: Any
) -> None:
    async with context(reference="run-1") as ctx:
        await do(ctx, "create_ticket", contact=ada.id, subject="Leak")
    async with context({"reference_property": "hub_reference"}, reference="run-2") as ctx:
        await do(ctx, "create_ticket", contact=ada.id, subject="Leak")
    [by_name, by_property] = [made["properties"] for made in calls_of(sandbox, "create_tickets")]
    assert by_name["subject"] == "Leak [run-1]"
    assert (by_property["subject"], by_property["hub_reference"]) == ("Leak", "run-2")


async def test_what_is_older_than_the_intention_is_not_ours(portal: Portal, context: ContextMaker, ada: Any) -> None:
    note = portal.make("notes", {"hs_timestamp": "2020-01-01T00:00:00Z", "hs_note_body": "x [run-1]"}, 0)
    portal.join("contacts", ada.id, "notes", note.id)
    async with context(reference="run-1") as ctx:
        assert await look(ctx, "create_note", contact=ada.id, body="x") is None


async def test_a_contact_with_too_many_records_leaves_the_outcome_unknown(
    portal: Portal, context: ContextMaker, ada: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(making.client, "_MAX_PAGES", 1)
    portal.pairs[("contacts", ada.id, "notes")] = [str(n) for n in range(501)]
    async with context() as ctx:
        with pytest.raises(OutcomeUnknown, match="too many"):
            await look(ctx, "create_note", contact=ada.id, body="x")


async def test_a_look_up_for_a_contact_that_is_not_there_finds_nothing(context: ContextMaker) -> None:
    async with context() as ctx:
        assert await look(ctx, "create_note", contact="nobody@example.test", body="x") is None
        assert await look(ctx, "create_note", contact="404", body="x") is None


async def test_a_task_is_due_from_the_intention_on(sandbox: HubspotSandbox, context: ContextMaker, ada: Any) -> None:
    async with context() as ctx:
        fixed = replace(ctx, intended_at_ms=1_795_170_000_000, now_ms=1_795_999_000_000)
        await do(fixed, "create_task", contact=ada.id, subject="Call", due_in="2h", owner="501", priority="HIGH")
    [made] = calls_of(sandbox, "create_tasks")
    assert made["properties"]["hs_timestamp"] == "2026-11-20T12:20:00.000Z"
    assert made["properties"]["hubspot_owner_id"] == "501"


async def test_a_deal_is_changed_in_part(portal: Portal, context: ContextMaker) -> None:
    deal = portal.make("deals", {"dealname": "Boat", "dealstage": "1", "amount": "5"}, 0)
    async with context() as ctx:
        await do(ctx, "update_deal", deal_id=deal.id, stage="closedwon")
    assert (deal.properties["dealstage"], deal.properties["amount"]) == ("closedwon", "5")


# -- lists -------------------------------------------------------------------------------------------------------------


async def test_a_hundred_people_join_by_one_call_and_leave_by_one(
    portal: Portal, context: ContextMaker, witness: Any
) -> None:
    ids = [portal.make("contacts", {"email": f"p{n}@example.test"}, 0).id for n in range(99)]
    members = [{"list_id": "31", "contact": f"p{n}@example.test" if n % 2 else ids[n]} for n in range(99)]
    async with context() as ctx:
        added = await batch(ctx, "add_to_list", [*members, {"list_id": "31", "contact": "nobody@example.test"}])
        again = await batch(ctx, "add_to_list", members[:2])
        gone = await batch(ctx, "remove_from_list", [*members, {"list_id": "31", "contact": "404"}])
    assert [one.contact_id for one in added[:99]] == ids
    assert all(one.changed for one in added[:99])
    assert [one.changed for one in again] == [False, False]
    assert isinstance(added[99], NotFound)
    assert isinstance(gone[99], NotFound)
    assert portal.lists["31"].members == {}
    assert [one.method for one in witness.requests].count("PUT") == 3


async def test_a_list_that_hubspot_fills_itself_takes_nobody(context: ContextMaker, ada: Any) -> None:
    async with context() as ctx:
        with pytest.raises(Rejected):
            await do(ctx, "add_to_list", list_id="32", contact=ada.id)
        with pytest.raises(NotFound):
            await do(ctx, "add_to_list", list_id="404", contact=ada.id)


async def test_nothing_is_asked_for_people_whom_nobody_knows(context: ContextMaker, witness: Any) -> None:
    async with context() as ctx:
        [found] = await batch(ctx, "add_to_list", [{"list_id": "31", "contact": "nobody@example.test"}])
    assert isinstance(found, ConnectorError)
    assert [one.method for one in witness.requests] == ["POST"]


# -- consent, e-mail, events -------------------------------------------------------------------------------------------


async def test_a_subscription_is_set_with_its_legal_basis(
    sandbox: HubspotSandbox, portal: Portal, context: ContextMaker
) -> None:
    given = {
        "email": "ada+news@example.test",
        "subscription": "7104",
        "status": "SUBSCRIBED",
        "legal_basis": "CONSENT_WITH_NOTICE",
        "legal_basis_explanation": "Ticked the box",
    }
    async with context() as ctx:
        assert (await do(ctx, "set_subscription", **given)).changed
        assert not (await do(ctx, "set_subscription", **given)).changed
        with pytest.raises(Rejected, match="subscription"):
            await do(ctx, "set_subscription", **{**given, "subscription": "Newsletter"})
    assert portal.consents == {("ada+news@example.test", "7104"): "SUBSCRIBED"}
    assert calls_of(sandbox, "set_status")[0]["legalBasis"] == "CONSENT_WITH_NOTICE"


LEFT_MS = 1_790_000_000_000
BEFORE, AFTER = "2026-09-21T13:00:00Z", "2026-09-21T15:00:00Z"  # of that instant, 14:13:20


@pytest.mark.parametrize("status", ["SUBSCRIBED", "NOT_SPECIFIED"])
@pytest.mark.parametrize("said", [{}, {"consented_at": BEFORE}])
@pytest.mark.parametrize("left", ["one type", "all"])
async def test_who_left_is_not_subscribed_again(
    status: str, said: dict[str, str], left: str, portal: Portal, sandbox: HubspotSandbox, context: ContextMaker
) -> None:
    _leave(portal, left)
    given = {"email": "Ada@example.test", "subscription": "7104", "status": status, **said}
    async with context() as ctx:
        with pytest.raises(SkipStep, match=r"newer|consented_at") as skipped:
            await do(ctx, "set_subscription", **given)
    # What HubSpot knows of leaving everything goes to the ledger; who left one type may want the others.
    signal = ConsentSignal(
        "email", "Ada@example.test", ConsentState.REVOKED, "unsubscribe", at=datetime.fromtimestamp(LEFT_MS / 1000, UTC)
    )
    assert (skipped.value.reason, skipped.value.signals) == ("no_consent", (signal,) if left == "all" else ())
    assert not calls_of(sandbox, "set_status")


@pytest.mark.parametrize("left", ["one type", "all", "another type"])
async def test_who_agreed_since_is_subscribed_again(
    left: str, portal: Portal, sandbox: HubspotSandbox, context: ContextMaker
) -> None:
    _leave(portal, left)
    said = {} if left == "another type" else {"consented_at": AFTER}
    given = {"email": "ada@example.test", "subscription": "7104", "status": "SUBSCRIBED", **said}
    async with context() as ctx:
        # also when it is done again, for the answer was lost
        for changed in (True, False):
            found = await do(ctx, "set_subscription", **given)
            assert (found.status, found.changed) == ("SUBSCRIBED", changed)
    assert "consented_at" not in calls_of(sandbox, "set_status")[0]


async def test_whoever_leaves_again_may_always_leave(portal: Portal, context: ContextMaker) -> None:
    _leave(portal, "all")
    async with context() as ctx:
        await do(ctx, "set_subscription", email="ada@example.test", subscription="7104", status="UNSUBSCRIBED")
    assert portal.consents["ada@example.test", "7104"] == "UNSUBSCRIBED"


def _leave(portal: Portal, what: str) -> None:
    if what == "all":
        portal.opted_out["ada@example.test"] = LEFT_MS
        return
    key = ("ada@example.test", "7104" if what == "one type" else "7105")
    portal.consents[key], portal.consents_at[key] = "UNSUBSCRIBED", LEFT_MS


@pytest.mark.parametrize("kind", ["marketing", "transactional"])
async def test_an_e_mail_is_sent_once_for_each_key(kind: str, sandbox: HubspotSandbox, context: ContextMaker) -> None:
    given = {"to": "ada@example.test", "email_id": "4126643121", "kind": kind, "custom_properties": {"coupon": "X"}}
    async with context() as ctx:
        first = await do(ctx, "send_email", **given, reply_to="help@example.test", from_address="Team <t@example.test>")
        again = await do(ctx, "send_email", **given)
    assert (first.status, first.result) == ("PENDING", None)
    assert (again.status_id, again.result) == (first.status_id, "IDEMPOTENT_IGNORE")
    [sent] = calls_of(sandbox, "send_email")
    assert sent["message"]["sendId"] == "00000000-0000-5000-8000-000000000000"


async def test_who_has_left_gets_no_e_mail_and_the_ledger_learns_it(portal: Portal, context: ContextMaker) -> None:
    portal.consents[("ada@example.test", "7104")] = "UNSUBSCRIBED"
    async with context() as ctx:
        with pytest.raises(SkipStep) as caught:
            await do(ctx, "send_email", to="ada@example.test", email_id="4126643121")
    assert caught.value.reason == "no_consent"
    assert caught.value.signals == (ConsentSignal("email", "ada@example.test", ConsentState.REVOKED, "unsubscribe"),)


@pytest.mark.parametrize(
    ("result", "error", "state"),
    [
        ("PREVIOUSLY_BOUNCED", SkipStep, ConsentState.BLOCKED),
        ("PREVIOUS_SPAM", SkipStep, ConsentState.BLOCKED),
        ("ADDRESS_OPTED_OUT", SkipStep, ConsentState.REVOKED),
        ("NON_MARKETABLE_CONTACT", SkipStep, None),
        ("PREVIOUSLY_UNSUBSCRIBED_MESSAGE", SkipStep, None),
        ("INVALID_TO_ADDRESS", Rejected, None),
        ("EMAIL_DISABLED", Rejected, None),
        ("PORTAL_SUSPENDED", Rejected, None),
        ("THROTTLED", RateLimited, None),
    ],
)
def test_each_result_of_a_sending_means_something(result: str, error: type[Exception], state: Any) -> None:
    with pytest.raises(error) as caught:
        emails._check(result, "ada@example.test")
    assert "ada" not in str(caught.value)
    signals = getattr(caught.value, "signals", ())
    assert [signal.state for signal in signals] == ([state] if state else [])


@pytest.mark.parametrize("result", ["SENT", "QUEUED", "IDEMPOTENT_IGNORE", "IDEMPOTENT_FAIL", None])
def test_what_was_sent_or_will_be_is_no_error(result: str | None) -> None:
    emails._check(result, "ada@example.test")


async def test_an_event_is_one_occurrence_for_each_key(
    sandbox: HubspotSandbox, context: ContextMaker, ada: Any
) -> None:
    async with context() as ctx:
        first = await do(ctx, "send_event", contact="ada@example.test", event="order_shipped", properties={"n": 2})
        await do(ctx, "send_event", contact="ada@example.test", event="pe62515_order_shipped", properties={"n": 2})
    assert first.event == "pe62515_order_shipped"
    [sent] = calls_of(sandbox, "custom_event")
    assert (sent["email"], sent["properties"]) == ("ada@example.test", {"n": "2"})


# -- search ------------------------------------------------------------------------------------------------------------


async def test_a_contact_is_found_by_address_also_while_searches_lag(
    sandbox: HubspotSandbox, context: ContextMaker, portal: Portal
) -> None:
    sandbox.search_lag_ms = 3_600_000
    ada = portal.make("contacts", {"email": "ada@example.test", "city": "Izmir"}, sandbox.clock.now_ms())
    async with context() as ctx:
        found = await do(ctx, "search_contact", email="ada@example.test", properties=["city"])
        missed = await do(ctx, "search_contact", property="city", value="Izmir")
    assert (found.found, found.contact_id, found.properties) == (True, ada.id, {"city": "Izmir"})
    assert not missed.found


async def test_of_several_the_oldest_is_found_and_the_number_told(portal: Portal, context: ContextMaker) -> None:
    ids = [portal.make("contacts", {"email": f"p{n}@example.test", "city": "Izmir"}, n).id for n in range(3)]
    async with context() as ctx:
        found = await do(ctx, "search_contact", property="city", value="Izmir")
        nobody = await do(ctx, "search_contact", email="nobody@example.test")
    assert (found.contact_id, found.count) == (ids[0], 3)
    assert not nobody.found


@pytest.mark.parametrize(
    "given", [{}, {"property": "city"}, {"email": "a@example.test", "property": "a", "value": "b"}]
)
def test_a_search_is_by_address_or_by_property(given: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        hubspot.actions["search_contact"].input.model_validate(given)


# -- rehearsals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("upsert_contact", {"email": "ada@example.test"}),
        ("update_contact", {"contact": "7", "properties": {"city": "x"}}),
        ("move_lifecycle_stage", {"contact": "7", "stage": "lead"}),
        ("search_contact", {"email": "ada@example.test"}),
        ("search_contact", {"property": "city", "value": "x"}),
        ("assign_owner", {"record": "7", "owner": "o@example.test"}),
        ("assign_owner", {"record": "a@example.test", "team": "9"}),
        ("create_note", {"contact": "7", "body": "x"}),
        ("create_task", {"contact": "7", "subject": "x"}),
        ("create_ticket", {"contact": "7", "subject": "x"}),
        ("create_deal", {"contact": "7", "name": "x", "stage": "1"}),
        ("update_deal", {"deal_id": "7", "stage": "1"}),
        ("add_to_list", {"list_id": "31", "contact": "7"}),
        ("remove_from_list", {"list_id": "31", "contact": "a@example.test"}),
        ("set_subscription", {"email": "a@example.test", "subscription": "1", "status": "SUBSCRIBED"}),
        ("send_email", {"to": "a@example.test", "email_id": "1"}),
        ("send_event", {"contact": "7", "event": "x"}),
    ],
)
def test_a_rehearsal_pretends_a_whole_output_and_says_what_would_be_done(name: str, given: dict[str, Any]) -> None:
    action = hubspot.actions[name]
    checked = action.input.model_validate(given)
    pretended = action.rehearse(checked, 0)
    assert action.output.model_validate(pretended.model_dump()) == pretended
    assert action.rehearse(checked, 0) == pretended
    assert action.dry_run(checked) != action.title
