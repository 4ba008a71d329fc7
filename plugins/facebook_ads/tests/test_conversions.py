"""Conversion events: their shape, what is refused before it is sent, and the one wrong event among many."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from facebook_business.adobjects.serverside.action_source import ActionSource
from facebook_business.adobjects.serverside.content import Content
from facebook_business.adobjects.serverside.custom_data import CustomData
from facebook_business.adobjects.serverside.event import Event
from facebook_business.adobjects.serverside.user_data import UserData
from pydantic import ValidationError

from hub import OutcomeUnknown, RateLimited, Rejected
from hub.clock import FrozenClock, parse_time_ms
from hub_facebook_ads.actions.conversions import ConversionEvent, Told, send_conversion_event
from hub_facebook_ads.sandbox import FacebookSandbox, edges
from hub_facebook_ads.sandbox.business import Business

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
PIXEL = "1113"


def event(number: int = 1, **fields: Any) -> ConversionEvent:
    usual = {
        "pixel_id": PIXEL,
        "event_name": "Purchase",
        "event_id": f"order-{number}",
        "event_time": NOW - timedelta(minutes=5),
        "email": "jane@example.com",
    }
    return ConversionEvent.model_validate(usual | fields)


async def sent(ctx: Any, *events: ConversionEvent) -> Any:
    assert send_conversion_event.run_batch
    return await send_conversion_event.run_batch(ctx, events)


async def test_an_event_is_written_as_meta_s_own_library_writes_it(ctx: Any, sandbox: FacebookSandbox) -> None:
    # given
    ours = event(
        phone="+14155550100", first_name="Jane", last_name="Doe", city="San Francisco", state="CA", zip="94025",
        country="US", gender="f", birth_date="1987-03-04", action_source="website", event_source_url="https://shop.example/thanks",
        client_user_agent="Mozilla/5.0", client_ip_address="203.0.113.7", fbc="fb.1.1", fbp="fb.1.2", value="60.00 USD",
        order_id="5778", contents=[{"id": "SC-1", "quantity": 2, "item_price": "30.00 USD"}],
    )  # fmt: skip
    theirs = Event(
        event_name="Purchase",
        event_id="order-1",
        event_time=int((NOW - timedelta(minutes=5)).timestamp()),
        action_source=ActionSource.WEBSITE,
        event_source_url="https://shop.example/thanks",
        user_data=UserData(
            emails=["jane@example.com"], phones=["14155550100"], first_names=["Jane"], last_names=["Doe"],
            cities=["San Francisco"], states=["CA"], zip_codes=["94025"], country_codes=["US"],
            dates_of_birth=["19870304"], client_user_agent="Mozilla/5.0", client_ip_address="203.0.113.7", fbc="fb.1.1",
            fbp="fb.1.2",
        ),
        custom_data=CustomData(
            value=60.0, currency="USD", order_id="5778", content_type="product",
            contents=[Content(product_id="SC-1", quantity=2, item_price=30.0)],
        ),
    ).normalize()  # fmt: skip

    # when
    await send_conversion_event.run(ctx, ours)

    # then
    [written] = sandbox.asked[-1][3]["data"]
    # The library wants its own enumeration for the gender, and Meta's lower case for currencies; the guide writes USD.
    assert written["user_data"].pop("ge") == ["252f10c83610ebca1a059c0bae8255eba2f95be4d1d7bcfa89d7248a82d9f111"]
    theirs["custom_data"]["currency"] = theirs["custom_data"]["currency"].upper()
    theirs["custom_data"]["contents"] = [dict(one) for one in theirs["custom_data"]["contents"]]
    assert written == {name: value for name, value in theirs.items() if value is not None}


async def test_a_lead_s_stage_names_the_lead(ctx: Any, sandbox: FacebookSandbox) -> None:
    stage = event(event_name="Qualified", email=None, lead_id="1530066778863063")
    await send_conversion_event.run(ctx, stage)
    [written] = sandbox.asked[-1][3]["data"]
    assert written["user_data"] == {"lead_id": "1530066778863063"}
    assert written["custom_data"] == {"event_source": "crm", "lead_event_source": "Tetik Hub"}
    assert written["action_source"] == "system_generated"


async def test_limited_data_use_and_a_test_code_are_said(context: Any, sandbox: FacebookSandbox) -> None:
    settings = {"ad_account_id": "act_111", "page_id": "119440231087027", "test_event_code": "TEST123"}
    async with context(settings) as ctx:
        await send_conversion_event.run(ctx, event(limited_data_use=True))
    asked = sandbox.asked[-1][3]
    assert asked["test_event_code"] == "TEST123"
    assert asked["data"][0]["data_processing_options"] == ["LDU"]
    assert asked["data"][0]["data_processing_options_country"] == 0


def test_an_event_of_a_website_says_where_and_with_what() -> None:
    with pytest.raises(ValidationError, match="event_source_url"):
        event(action_source="website")


@pytest.mark.parametrize(
    ("fields", "refused"),
    [
        ({"event_time": NOW - timedelta(days=6, hours=23)}, False),
        ({"event_time": NOW - timedelta(days=7, minutes=1)}, True),
        ({"event_time": NOW - timedelta(days=61), "action_source": "physical_store"}, False),
        ({"event_time": NOW - timedelta(days=63), "action_source": "physical_store"}, True),
        ({"email": "nobody"}, True),
        ({"email": None, "fbp": "fb.1.2"}, False),
    ],
)
async def test_what_would_spoil_the_others_is_not_sent(
    ctx: Any, business: Business, fields: dict[str, Any], refused: bool
) -> None:
    first, second = await sent(ctx, event(1, **fields), event(2))
    assert isinstance(first, Rejected) is refused
    assert isinstance(second, Told)
    assert len(business.events) == (1 if refused else 2)


@pytest.mark.parametrize("bad", [[0], [499], [999], [3, 4, 700], list(range(8))])
async def test_wrong_events_among_a_thousand_fail_alone(
    ctx: Any, business: Business, sandbox: FacebookSandbox, bad: list[int]
) -> None:
    # given events with a currency that Meta refuses
    wrong = {"custom": {"currency": "euros"}}
    events = [event(at, **(wrong if at in bad else {})) for at in range(1000)]

    # when
    answers = await sent(ctx, *events)

    # then
    assert [at for at, answer in enumerate(answers) if not isinstance(answer, Told)] == bad
    assert all(isinstance(answers[at], Rejected) for at in bad)
    assert len(business.events) == 1000 - len(bad)
    assert len(sandbox.asked) <= 1 + 2 * 10 * len(bad)


async def test_a_refusal_of_everything_does_not_ask_for_ever(ctx: Any, sandbox: FacebookSandbox) -> None:
    events = [event(at, custom={"currency": "euros"}) for at in range(1000)]
    answers = await sent(ctx, *events)
    assert {type(answer) for answer in answers} == {Rejected}
    assert len(sandbox.asked) < 120


async def test_the_same_fact_counts_once(ctx: Any, business: Business, sandbox: FacebookSandbox) -> None:
    await sent(ctx, event(1), event(2))
    await sent(ctx, event(1), event(3))
    assert len([entry for entry in sandbox.log if entry.operation == "event"]) == 3


async def test_a_fault_in_the_middle_of_the_halving_is_for_all_and_a_repeat_harms_nobody(
    ctx: Any, sandbox: FacebookSandbox
) -> None:
    # given: all refused, then the first half is taken, then Meta throttles
    events = [event(1), event(2, custom={"currency": "euros"})]
    sandbox.error_codes = [None, None, (80004, 0)]
    with pytest.raises(RateLimited):
        await sent(ctx, *events)

    # when
    first, second = await sent(ctx, *events)

    # then
    assert isinstance(first, Told)
    assert isinstance(second, Rejected)
    assert len([entry for entry in sandbox.log if entry.operation == "event"]) == 1


async def test_a_repeat_after_two_days_is_not_made(context: Any, clock: FrozenClock, sandbox: FacebookSandbox) -> None:
    async with context() as ctx:
        late = replace(ctx, now_ms=parse_time_ms("2026-11-24T10:00:01Z"))
        [answer] = await sent(late, event())
    assert isinstance(answer, OutcomeUnknown)
    assert sandbox.asked == []


async def test_an_answer_for_fewer_events_leaves_all_of_them_open(
    ctx: Any, sandbox: FacebookSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(edges._HANDLERS, ("POST", "pixel", "events"), lambda *_: {"events_received": 1})
    with pytest.raises(OutcomeUnknown, match="1 of 2"):
        await sent(ctx, event(1), event(2))
