"""`hub demo`: the day is played once, and its story is read from the report, by people and by the sandboxes' own logs."""

from __future__ import annotations

import asyncio
import io
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from hub.demo import run_demo
from hub.demo.outcome import CarriedOut, EffectSeen, Outcome, PersonSeen
from hub.demo.people import Part
from hub.errors import ConfigError

CART = "abandoned-cart-sms"


class Day:
    """The day as it was told: the report as data, and what was printed."""

    def __init__(self, outcome: Outcome, printed: str) -> None:
        self.outcome, self.printed = outcome, printed

    def who(self, *parts: Part) -> list[PersonSeen]:
        """The people with these parts; there is somebody for each."""
        found = [person for person in self.outcome.people if person.part in {part.value for part in parts}]
        assert {person.part for person in found} == {part.value for part in parts}
        return found

    def texts_to(self, person: PersonSeen) -> list[CarriedOut]:
        """The messages to somebody in the log of Twilio's sandbox, in their order."""
        log = self.outcome.sandboxes["twilio"].log
        return [entry for entry in log if entry.operation == "send_sms" and entry.data["to"] == person.phone]

    def cart_texts_to(self, person: PersonSeen) -> list[CarriedOut]:
        """Those of them that are about a cart."""
        return [entry for entry in self.texts_to(person) if "your cart" in entry.data["body"]]


def effects(person: PersonSeen, step: str) -> list[EffectSeen]:
    """Somebody's effects of one step."""
    return [effect for effect in person.effects if effect.step == step]


def refusal(person: PersonSeen, step: str) -> str:
    """Why one step of somebody's runs was not carried out."""
    assert effects(person, step) == []
    (found,) = [seen for run in person.runs for seen in run.steps if seen.step == step]
    return found.reason


def end(person: PersonSeen, recipe: str = CART) -> str | None:
    """How the only run of somebody in a recipe ended."""
    (run,) = [run for run in person.runs if run.recipe == recipe]
    return run.ended_by


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Day:
    """The demo, run once."""
    file = tmp_path_factory.mktemp("demo") / "day.json"
    printed = io.StringIO()
    asyncio.run(run_demo(Console(file=printed, width=100), file))
    return Day(Outcome.model_validate_json(file.read_text(encoding="utf-8")), printed.getvalue())


# -- once --------------------------------------------------------------------------------------------------------------


def test_every_effect_happened_exactly_once_by_the_sandboxes_own_logs(day: Day) -> None:
    done = Counter((effect.action, effect.proof) for effect in day.outcome.effects)
    fields = {"send_sms": "sid", "create_discount": "code", "tag_customer": "customer_id"}
    logged = Counter(
        (f"{connector}.{entry.operation}", entry.data[fields[entry.operation]])
        for connector, sandbox in day.outcome.sandboxes.items()
        for entry in sandbox.log
    )
    assert done == logged
    assert set(done.values()) == {1}
    assert day.outcome.once.asked_for == day.outcome.once.at_sandboxes == done.total() > 70


def test_no_run_is_left_open(day: Day) -> None:
    assert {run.status for person in day.outcome.people for run in person.runs} == {"done"}
    assert {effect.state for effect in day.outcome.effects} == {"done"}


def test_nobody_got_the_same_message_twice(day: Day) -> None:
    for person in day.outcome.people:
        bodies = [entry.data["body"] for entry in day.texts_to(person)]
        assert len(bodies) == len(set(bodies)), person.name


def test_duplicates_changed_nothing(day: Day) -> None:
    events = day.outcome.events

    # Polls see again what webhooks told.
    assert events.duplicates >= events.repeats_sent > 10
    assert events.by_type["shopify.order_paid"] == events.by_type["shopify.order_created"]
    for person in day.outcome.people:
        assert len({(run.recipe, run.started_at) for run in person.runs}) == len(person.runs)
        assert max(Counter(run.recipe for run in person.runs).values(), default=0) <= 1


# -- who got what ------------------------------------------------------------------------------------------------------


def test_who_leaves_a_cart_is_reminded_after_four_hours_and_offered_a_code_a_day_later(day: Day) -> None:
    for person in day.who(Part.LEAVES, Part.LEAVES_TWICE):
        reminder, offer = day.cart_texts_to(person)
        (coupon,) = effects(person, "coupon")

        assert "your cart is still here" in reminder.data["body"]
        assert coupon.proof
        assert coupon.proof in offer.data["body"]
        assert end(person) == "offered"


def test_nobody_who_bought_hears_of_the_cart_afterwards(day: Day) -> None:
    for person in day.who(Part.BUYS_WHILE_WAITING, Part.BUYS_AT_THE_LAST_SECOND, Part.FINISHES):
        assert day.cart_texts_to(person) == []
    for person in day.who(Part.BUYS_AFTER_REMINDER):
        (reminder,) = day.cart_texts_to(person)
        (thanks,) = effects(person, "thanks")
        assert thanks.intended_at is not None
        assert reminder.at < thanks.intended_at
    for person in day.who(Part.BUYS_WHILE_WAITING, Part.BUYS_AT_THE_LAST_SECOND, Part.BUYS_AFTER_REMINDER):
        assert str(end(person)).startswith("shopify.order_")
        assert [entry.data["body"].split(",")[0] for entry in day.texts_to(person)][-1] == "Thank you"


def test_who_answers_gets_no_code(day: Day) -> None:
    for person in day.who(Part.ANSWERS):
        assert len(day.cart_texts_to(person)) == 1
        assert effects(person, "coupon") == []
        assert end(person) == "answered"


def test_stop_is_honoured_wherever_it_comes(day: Day) -> None:
    for person in day.who(Part.STOPS_WHILE_WAITING, Part.STOPS_THEN_BUYS):
        assert day.texts_to(person) == []
        assert refusal(person, "reminder") == "suppressed: stop"
    for person in day.who(Part.STOPS_AS_ANSWER):
        assert len(day.texts_to(person)) == 1
        assert end(person) == "opted-out"
    for person in day.who(Part.STOPS_THEN_BUYS):
        assert refusal(person, "thanks") == "suppressed: stop"


def test_who_never_agreed_gets_no_marketing_and_the_reason_is_on_record(day: Day) -> None:
    for person in day.who(Part.NO_CONSENT, Part.NO_CONSENT_BUYS, Part.SIGNS_UP_WITHOUT_CONSENT):
        signed_up = person.part == Part.SIGNS_UP_WITHOUT_CONSENT.value
        assert refusal(person, "welcome" if signed_up else "reminder") == "no_consent"
    for person in day.who(Part.NO_CONSENT, Part.SIGNS_UP_WITHOUT_CONSENT):
        assert day.texts_to(person) == []
    for person in day.who(Part.NO_CONSENT_BUYS):
        (thanks,) = day.texts_to(person)
        assert "Your order" in thanks.data["body"]


def test_a_cheap_or_a_second_cart_starts_nothing_and_says_why(day: Day) -> None:
    for person in day.who(Part.TOO_CHEAP):
        assert person.runs == []
        (verdict,) = person.not_started
        assert "is below 50.00 EUR" in verdict.reason
    for person in day.who(Part.LEAVES_TWICE):
        (verdict,) = person.not_started
        assert verdict.outcome == "already_inside"


def test_new_customers_are_welcomed_in_the_morning_not_in_the_night(day: Day) -> None:
    for person in day.who(Part.SIGNS_UP):
        (welcome,) = day.texts_to(person)
        assert "T09:00:" in welcome.at
    for person in day.who(Part.SIGNS_UP_AND_BUYS):
        assert effects(person, "welcome") == []
        assert end(person, "welcome-customer") == "shopify.order_paid"


# -- what goes wrong ---------------------------------------------------------------------------------------------------


def test_a_forged_webhook_is_refused_and_changes_nothing(day: Day) -> None:
    assert sum(day.outcome.events.refused.values()) == 2
    for person in day.who(Part.LEAVES_FORGED):
        assert len(day.cart_texts_to(person)) == 2
        assert end(person) == "offered"


def test_a_webhook_of_an_unknown_topic_is_kept(day: Day) -> None:
    assert day.outcome.events.webhooks["unrecognised"] == 1
    assert day.outcome.events.unrecognised_topics == ["themes/publish"]


def test_a_vendor_that_throttles_delays_and_loses_nothing(day: Day) -> None:
    assert all(sandbox.throttled > 0 for sandbox in day.outcome.sandboxes.values())
    # Who met the vendor's refusal is tried again; the others wait their turn, which spends no attempt.
    tried = []
    for person in day.who(Part.LEAVES_IN_A_CROWD):
        (reminder,) = effects(person, "reminder")
        assert len(day.cart_texts_to(person)) >= 1
        assert str(reminder.intended_at) < day.cart_texts_to(person)[0].at
        tried.append(reminder.attempts)
    assert max(tried) > 1
    tags = [effects(person, "tag")[0] for person in day.who(Part.BUYS_WHILE_WAITING)]
    assert {tag.state for tag in tags} == {"done"}
    assert max(tag.attempts for tag in tags) > 1


def test_a_lost_answer_is_looked_up_and_the_message_not_sent_again(day: Day) -> None:
    (person,) = day.who(Part.LEAVES_ANSWER_LOST)
    (reminder,) = effects(person, "reminder")

    assert reminder.reason == "found at the vendor after a lost answer"
    sent, offer = day.cart_texts_to(person)
    assert sent.data["sid"] == reminder.proof != offer.data["sid"]


def test_a_number_out_of_service_is_not_tried_again(day: Day) -> None:
    (person,) = day.who(Part.UNDELIVERABLE)

    assert len(day.texts_to(person)) == 1
    assert end(person) == "undeliverable"


# -- the report --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "says",
    [
        lambda day: f"{day.outcome.once.asked_for} asked for, {day.outcome.once.at_sandboxes} at the sandboxes",
        lambda day: f"{day.outcome.events.duplicates}  duplicates",
        lambda day: "hub recipes test recipes/",
        lambda day: "no_consent",
    ],
)
def test_the_printed_report_says_it_in_words(day: Day, says: Callable[[Day], str]) -> None:
    assert says(day) in day.printed


def test_the_printed_report_has_a_line_for_everybody_and_fits_the_screen(day: Day) -> None:
    lines = day.printed.splitlines()

    assert all(any(line.startswith(person.name) for line in lines) for person in day.outcome.people)
    assert max(map(len, lines)) <= 100


async def test_a_report_that_has_nowhere_to_go_is_refused_before_the_day_begins(tmp_path: Path) -> None:
    printed = io.StringIO()

    with pytest.raises(ConfigError, match="no folder"):
        await run_demo(Console(file=printed), tmp_path / "missing" / "day.json")

    assert printed.getvalue() == ""
