"""People into and out of audiences: one call for many, an outcome for each, and out of everything when they are forgotten."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub import AuthExpired, Identity, OutcomeUnknown, PermanentError, RateLimited, Rejected
from hub.testing.contract.stage import hub_of, starter, webhook
from hub_facebook_ads import facebook_ads
from hub_facebook_ads.actions.members import FormerMember, Member, Membership, add_to_audience, remove_from_audience
from hub_facebook_ads.matching import Identifiers, cells
from hub_facebook_ads.sandbox import FacebookSandbox
from hub_facebook_ads.sandbox.business import Business
from hub_facebook_ads.upload import MOST_ROWS, payload, session

AD_ACCOUNT, PAGE, AUDIENCE = "act_111", "119440231087027", "23850000000000"


@pytest.fixture(autouse=True)
def audience(business: Business) -> str:
    return str(business.audience("Customers", id=AUDIENCE)["id"])


def member(**fields: Any) -> Member:
    return Member(audience_id=AUDIENCE, **fields)


def former(**fields: Any) -> FormerMember:
    return FormerMember(audience_id=AUDIENCE, **fields)


def many(count: int) -> list[Member]:
    return [member(email=f"jane{at}@example.com", phone=f"+1415555{at:04}") for at in range(count)]


async def test_ten_thousand_people_take_at_most_ten_calls(
    ctx: Any, sandbox: FacebookSandbox, business: Business
) -> None:
    # given
    people = many(10_000)
    assert add_to_audience.batch
    assert add_to_audience.run_batch

    # when
    size = add_to_audience.batch.size
    for start in range(0, len(people), size):
        answers = await add_to_audience.run_batch(ctx, people[start : start + size])
        assert all(isinstance(answer, Membership) for answer in answers)

    # then
    assert len(business.members[AUDIENCE]) == 10_000
    assert len(sandbox.asked) == 10


async def test_a_full_upload_of_every_key_fits_into_a_call(ctx: Any, business: Business) -> None:
    everything = {
        "first_name": "Jane", "last_name": "Doe", "first_initial": "J", "gender": "f", "birth_date": "1987-03-04",
        "city": "Istanbul", "state": "Istanbul", "zip": "34000", "country": "TR",
        "advertising_id": "aebe52e7-03ee-455a-b3c4-e57283966239",
    }  # fmt: skip
    people = [member(email=f"jane{at}@example.com", external_id=f"crm-{at}", **everything) for at in range(MOST_ROWS)]
    assert add_to_audience.run_batch
    answers = await add_to_audience.run_batch(ctx, people)
    assert {type(answer) for answer in answers} == {Membership}


async def test_people_with_different_keys_share_a_schema(ctx: Any, sandbox: FacebookSandbox) -> None:
    # given
    people = [member(email="jane@example.com"), member(phone="+14155550100"), member(external_id="crm-1", country="US")]

    # when
    assert add_to_audience.run_batch
    await add_to_audience.run_batch(ctx, people)

    # then
    sent = sandbox.asked[-1][3]["payload"]
    assert sent["schema"] == ["EXTERN_ID", "EMAIL", "PHONE", "COUNTRY"]
    assert [sum(cell != "" for cell in row) for row in sent["data"]] == [1, 1, 2]
    assert sent["data"][2][0] == "crm-1"


async def test_who_is_nobody_fails_alone(ctx: Any, business: Business) -> None:
    # given
    people = [member(email="nobody"), member(email="jane@example.com"), member(phone="unknown", country="US")]

    # when
    assert add_to_audience.run_batch
    first, second, third = await add_to_audience.run_batch(ctx, people)

    # then
    assert isinstance(first, Rejected)
    assert isinstance(third, Rejected)
    assert second == Membership(audience_id=AUDIENCE, session_id=second.session_id, keys=["EMAIL"])
    assert len(business.members[AUDIENCE]) == 1
    assert "nobody" not in str(first)


async def test_a_batch_of_nobodies_calls_nobody(ctx: Any, sandbox: FacebookSandbox) -> None:
    assert add_to_audience.run_batch
    answers = await add_to_audience.run_batch(ctx, [member(email="nobody"), member()])
    assert [type(answer) for answer in answers] == [Rejected, Rejected]
    assert sandbox.asked == []


async def test_a_value_that_meta_shows_as_invalid_fails_its_person_alone(
    ctx: Any, sandbox: FacebookSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a Meta that takes one of the hashes for none
    bad = cells(Identifiers(email="jane1@example.com"))["EMAIL"]
    monkeypatch.setattr(
        "hub_facebook_ads.sandbox.edges._HEX",
        type("Picky", (), {"fullmatch": staticmethod(lambda cell: cell != bad)}),
    )

    # when
    assert add_to_audience.run_batch
    answers = await add_to_audience.run_batch(ctx, [member(email=f"jane{at}@example.com") for at in range(3)])

    # then
    assert [type(answer) for answer in answers] == [Membership, Rejected, Membership]


async def test_a_repeat_says_the_very_same_in_the_same_session(ctx: Any, sandbox: FacebookSandbox) -> None:
    for _ in range(2):
        await add_to_audience.run(ctx, member(email="jane@example.com"))
    first, second = (asked[3] for asked in sandbox.asked)
    assert first == second
    assert first["session"]["batch_seq"] == 1
    assert first["session"]["last_batch_flag"] is True


@given(st.text(max_size=40), st.text(max_size=40))
def test_a_session_is_a_positive_number_of_its_own(one: str, other: str) -> None:
    first, second = session(one, "POST", 1)["session_id"], session(other, "POST", 1)["session_id"]
    assert 0 < first < 2**53
    assert (first == second) is (one == other)
    assert session(one, "POST", 1) != session(one, "DELETE", 1)


def test_limited_data_use_is_said_of_those_it_is_for() -> None:
    rows = [{"EMAIL": "a"}, {"EMAIL": "b"}]
    assert payload(rows, [False, False]) == {"schema": ["EMAIL"], "data": [["a"], ["b"]]}
    assert payload(rows, [True, False]) == {
        "schema": ["EMAIL", "DATA_PROCESSING_OPTIONS"],
        "data": [["a", ["LDU"]], ["b", []]],
    }


async def test_limited_data_use_is_sent(ctx: Any, sandbox: FacebookSandbox) -> None:
    await add_to_audience.run(ctx, member(email="jane@example.com", limited_data_use=True))
    assert sandbox.asked[-1][3]["payload"]["schema"] == ["EMAIL", "DATA_PROCESSING_OPTIONS"]


async def test_who_was_added_is_removed_by_any_of_their_keys(ctx: Any, business: Business) -> None:
    await add_to_audience.run(ctx, member(email="jane@example.com", external_id="crm-1"))
    await add_to_audience.run(ctx, member(email="john@example.com"))
    await remove_from_audience.run(ctx, former(external_id="crm-1"))
    await remove_from_audience.run(ctx, former(email="nobody-there@example.com"))
    assert [dict(one) for one in business.members[AUDIENCE]] == [cells(Identifiers(email="john@example.com"))]


JANE, JOHN = {"email": "jane@example.com"}, {"email": "john@example.com"}


@pytest.mark.parametrize(
    ("batch", "there"),
    [
        ([member(**JANE), former(**JANE)], set()),
        ([former(**JANE), member(**JANE)], {"jane"}),
        ([member(**JANE), former(**JANE), member(**JANE)], {"jane"}),
        ([member(**JANE, phone="+14155550100"), former(phone="+14155550100")], set()),
        ([former(**JOHN), member(**JANE), member(**JOHN), former(**JANE)], {"john"}),
        (
            [member(**JANE, first_name="Jo", last_name="Doe"), former(**JOHN, first_name="Jo", last_name="Doe")],
            {"jane"},
        ),
    ],
)
async def test_of_one_person_in_one_batch_the_last_word_counts(
    ctx: Any, business: Business, sandbox: FacebookSandbox, batch: list[Member], there: set[str]
) -> None:
    # given
    await add_to_audience.run(ctx, member(**JOHN, external_id="crm-2"))
    await remove_from_audience.run(ctx, former(**JOHN))
    before = len(sandbox.asked)

    # when
    assert add_to_audience.run_batch
    answers = await add_to_audience.run_batch(ctx, batch)

    # then
    emails = {dict(one)["EMAIL"] for one in business.members[AUDIENCE]}
    assert emails == {cells(Identifiers(email=f"{name}@example.com"))["EMAIL"] for name in there}
    assert {type(answer) for answer in answers} == {Membership}
    assert len(sandbox.asked) - before <= 2


async def test_who_is_overtaken_is_told_so(ctx: Any) -> None:
    assert add_to_audience.run_batch
    added, removed = await add_to_audience.run_batch(ctx, [member(**JANE), former(**JANE)])
    assert isinstance(added, Membership)
    assert isinstance(removed, Membership)
    assert (added.overtaken, added.session_id, removed.overtaken) == (True, "", False)


async def test_a_refusal_of_those_who_are_added_keeps_nobody_in(ctx: Any, sandbox: FacebookSandbox) -> None:
    assert add_to_audience.run_batch
    sandbox.error_codes = [(2650, 0)]
    added, removed = await add_to_audience.run_batch(ctx, [member(**JANE), former(**JOHN)])
    assert isinstance(added, PermanentError)
    assert isinstance(removed, Membership)
    sandbox.error_codes = [(190, 463)]
    with pytest.raises(AuthExpired):
        await add_to_audience.run_batch(ctx, [member(**JANE), former(**JOHN)])


async def test_a_flagged_audience_is_the_operator_s_business(ctx: Any, business: Business) -> None:
    business.audiences[AUDIENCE]["operation_status"] = {"code": 471, "description": "flagged"}
    with pytest.raises(PermanentError, match="flagged"):
        await add_to_audience.run(ctx, member(email="jane@example.com"))


async def test_a_throttling_and_a_passing_fault_are_for_the_whole_batch(ctx: Any, sandbox: FacebookSandbox) -> None:
    assert add_to_audience.run_batch
    sandbox.error_codes = [(80003, 0), (2, 0)]
    with pytest.raises(RateLimited):
        await add_to_audience.run_batch(ctx, many(3))
    with pytest.raises(OutcomeUnknown):
        await add_to_audience.run_batch(ctx, many(3))


def test_what_would_be_done_names_no_person() -> None:
    jane = member(email="jane@example.com", external_id="crm-1")
    assert add_to_audience.dry_run(jane) == f"add a person to audience {AUDIENCE} by EXTERN_ID, EMAIL"
    assert remove_from_audience.dry_run(former()) == (
        f"remove a person from audience {AUDIENCE} by nothing that identifies them"
    )


def test_they_are_what_other_connectors_are_asked_for_by_capability() -> None:
    assert (add_to_audience.provides, remove_from_audience.provides) == ("audience.add", "audience.remove")


# -- through a whole hub -----------------------------------------------------------------------------------------------

_RECIPE = """
recipe: into
on: {event: contract.begun}
steps:
  - {do: facebook_ads.add_to_audience, with: {audience_id: "%s", email: "jane{{ trigger.id }}@example.com"}}
"""


async def test_many_runs_share_one_call() -> None:
    settings = {"ad_account_id": AD_ACCOUNT, "page_id": PAGE}

    def prepared(sandbox: FacebookSandbox) -> None:
        sandbox.business(AD_ACCOUNT, PAGE).audience("Customers", id=AUDIENCE)

    async with hub_of(facebook_ads, settings, prepare=prepared, work=True) as (hub, sandbox):
        # given
        await hub.library.apply(_RECIPE % AUDIENCE, publish=True)
        connection = await hub.connections.by_name("contract")
        secret = (await hub.connections.fields(connection))["webhook_secret"]

        # when
        for number in range(40):
            body = json.dumps({"id": str(number)}).encode()
            headers = webhook.headers(body, secret)
            given_ = {"method": "POST", "query": "", "headers": headers, "body": body}
            await hub.ingest.receive(starter.name, connection.inbound_key, **given_)
        await hub.time.advance(hub.clock.now_ms() + 600_000, ring=hub.ring)

        # then
        calls = [entry for entry in sandbox.log if entry.operation == "add_users"]
        assert [len(entry.data["rows"]) for entry in calls] == [40]


_OUT_OF = """
recipe: out-of
on: {event: contract.begun}
steps:
  - {wait: 5s}
  - {do: facebook_ads.remove_from_audience, with: {audience_id: "%s", email: "jane1@example.com"}}
"""


async def test_adding_and_removing_share_one_batch_and_keep_their_order() -> None:
    settings = {"ad_account_id": AD_ACCOUNT, "page_id": PAGE}

    def prepared(sandbox: FacebookSandbox) -> None:
        sandbox.business(AD_ACCOUNT, PAGE).audience("Customers", id=AUDIENCE)

    async with hub_of(facebook_ads, settings, prepare=prepared, work=True) as (hub, sandbox):
        # given somebody who is added, and removed before the batch of those who are added is due
        assert isinstance(sandbox, FacebookSandbox)
        await hub.library.apply(_RECIPE % AUDIENCE, publish=True)
        await hub.library.apply(_OUT_OF % AUDIENCE, publish=True)
        connection = await hub.connections.by_name("contract")
        secret = (await hub.connections.fields(connection))["webhook_secret"]
        body = json.dumps({"id": "1"}).encode()

        # when
        given_ = {"method": "POST", "query": "", "headers": webhook.headers(body, secret), "body": body}
        await hub.ingest.receive(starter.name, connection.inbound_key, **given_)
        await hub.time.advance(hub.clock.now_ms() + 600_000, ring=hub.ring)

        # then
        assert [entry.operation for entry in sandbox.log] == ["remove_users"]
        assert sandbox.business(AD_ACCOUNT).members[AUDIENCE] == []


# -- forgetting --------------------------------------------------------------------------------------------------------


async def test_who_is_forgotten_leaves_every_audience(ctx: Any, business: Business) -> None:
    # given
    other = str(business.audience("Others")["id"])
    for audience in (AUDIENCE, other):
        await add_to_audience.run(ctx, Member(audience_id=audience, email="jane@example.com", external_id="crm-1"))
        await add_to_audience.run(ctx, Member(audience_id=audience, email="john@example.com"))

    # when
    assert facebook_ads.forget_
    for _ in range(2):
        await facebook_ads.forget_(ctx, Identity(email=" Jane@example.com", phone="+14155550100"))

    # then
    john = [cells(Identifiers(email="john@example.com"))]
    assert [dict(one) for one in business.members[AUDIENCE]] == john
    assert [dict(one) for one in business.members[other]] == john


@pytest.mark.parametrize("person", [Identity(), Identity(vendor="7", first_name="Jane")])
async def test_somebody_without_address_and_number_cannot_be_found(
    ctx: Any, sandbox: FacebookSandbox, person: Identity
) -> None:
    assert facebook_ads.forget_
    await facebook_ads.forget_(ctx, person)
    assert sandbox.asked == []


async def test_a_page_alone_has_no_audiences_to_leave(context: Any, sandbox: FacebookSandbox) -> None:
    assert facebook_ads.forget_
    async with context({"page_id": PAGE}) as page:
        await facebook_ads.forget_(page, Identity(email="jane@example.com"))
    assert sandbox.asked == []
