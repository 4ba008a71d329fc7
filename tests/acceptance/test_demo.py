"""`hub demo`: the day is played once, and its story is read from the report, by people and by the sandboxes' own logs."""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.console import Console

from hub.demo import run_demo
from hub.demo.outcome import CarriedOut, EffectSeen, Outcome, PersonSeen
from hub.demo.people import LEADS, Part
from hub.demo.proofs import PROOFS, done_at
from hub.errors import ConfigError
from hub.testing.sandbox import Received

# In one process, so that the day is played once and not once in each.
pytestmark = pytest.mark.xdist_group("demo")

CART = "abandoned-cart-sms"
LEAD = "lead-to-customer"
# As the recipes name them, and the sandbox.
AUDIENCES = {"cart-audience": "23850000000001", LEAD: "23850000000002"}


class Day:
    """The day as it was told: the report as data, and what was printed."""

    def __init__(self, outcome: Outcome, printed: str) -> None:
        self.outcome, self.printed = outcome, printed

    def who(self, *parts: Part) -> list[PersonSeen]:
        """The people with these parts; there is somebody for each."""
        found = [person for person in self.outcome.people if person.part in {part.value for part in parts}]
        assert {person.part for person in found} == {part.value for part in parts}
        return found

    def entries(self, connector: str, operation: str) -> list[CarriedOut]:
        """The entries of one operation in the log of a sandbox, in their order."""
        return [entry for entry in self.outcome.sandboxes[connector].log if entry.operation == operation]

    def mails_to(self, person: PersonSeen) -> list[CarriedOut]:
        """The e-mails to somebody in the log of the sandbox of Mailchimp Transactional."""
        return [entry for entry in self.entries("mandrill", "send") if entry.data["to"] == person.email]

    def texts_to(self, person: PersonSeen) -> list[CarriedOut]:
        """The messages to somebody in the log of Twilio's sandbox, in their order."""
        return [entry for entry in self.entries("twilio", "send_sms") if entry.data["to"] == person.phone]

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
    logged = Counter(logged_at(day))
    assert done == logged
    # Nobody does anything twice on this day, so that the logs may name each once.
    assert set(done.values()) == {1}
    assert day.outcome.once.asked_for == day.outcome.once.at_sandboxes == done.total() > 200
    assert {effect.connector for effect in day.outcome.effects} == set(day.outcome.sandboxes)


def logged_at(day: Day) -> Iterator[tuple[str, str]]:
    """What the sandboxes say they did, as action and what it was about; an entry that is not known here is an error."""
    plain = {
        "twilio.send_sms": "sid",
        "shopify.create_discount": "code",
        "shopify.tag_customer": "customer_id",
        "mandrill.send": "id",
        "mailchimp.upsert_member": "email_address",
        "hubspot.create_tasks": "id",
    }
    renamed = {"mandrill.send": "mandrill.send_email", "hubspot.create_tasks": "hubspot.create_task"}
    for connector, sandbox in day.outcome.sandboxes.items():
        for entry in sandbox.log:
            data, operation = entry.data, f"{connector}.{entry.operation}"
            if operation in {"hubspot.search", "mailchimp.add_webhook", "facebook_ads.forget_users"}:
                continue  # a question, where the hub asked to be called, who withdrew a consent
            if operation in plain:
                yield renamed.get(operation, operation), str(data[plain[operation]])
            elif operation == "mailchimp.tag_member":
                yield "mailchimp.add_tags", f"{data['email']} {' '.join(tag['name'] for tag in data['tags'])}"
            elif operation == "hubspot.upsert_contacts":
                yield from (("hubspot.upsert_contact", one["id"]) for one in data["inputs"])
            elif operation == "hubspot.update_contacts":
                [(name, value)] = data["properties"].items()
                action = {"hubspot_owner_id": "assign_owner", "lifecyclestage": "move_lifecycle_stage"}[name]
                yield f"hubspot.{action}", f"{data['id']} {value}"
            else:
                action = {"add_users": "add_to_audience", "remove_users": "remove_from_audience"}[entry.operation]
                for row in data["rows"]:
                    yield f"facebook_ads.{action}", f"{data['audience']} {dict(row)['EMAIL']}"


def test_a_sandbox_that_did_more_or_less_than_was_asked_for_is_found_out() -> None:
    entry = Received(0, "add_users", "act_1", {"audience": "7", "rows": [[("EMAIL", "a")], [("EMAIL", "b")]]})
    odd = Received(0, "create_audience", "act_1", {})

    assert list(done_at("facebook_ads", [entry, odd])) == [
        "facebook_ads.add_to_audience 7 a",
        "facebook_ads.add_to_audience 7 b",
        "facebook_ads.create_audience (no known action)",
    ]
    assert list(done_at("hubspot", [Received(0, "search", "1", {})])) == []
    # Who was added and removed in one call is in it once, as they were last.
    of_effect = PROOFS["facebook_ads.add_to_audience"].of_effect
    assert of_effect({"email": "ada@example.com"}, {"audience_id": "7", "overtaken": True}) is None


def test_only_who_is_in_an_audience_waits_on(day: Day) -> None:
    for person in day.outcome.people:
        for run in person.runs:
            if run.status != "done":
                assert run.recipe in {"cart-audience", "lead-to-customer"}
                assert [step.outcome for step in run.steps if step.step == "ads"] == ["done"]
    assert {effect.state for effect in day.outcome.effects} == {"done"}


def test_nobody_got_the_same_message_twice(day: Day) -> None:
    for person in day.outcome.people:
        bodies = [entry.data["body"] for entry in day.texts_to(person)]
        assert len(bodies) == len(set(bodies)), person.name


def test_duplicates_changed_nothing(day: Day) -> None:
    events = day.outcome.events

    assert events.duplicates == events.repeats_sent > 10
    assert events.by_type["facebook_ads.lead_submitted"] == len([p for p in day.outcome.people if p.part in LEADS])
    assert events.by_type["hubspot.form_submitted"] == len(day.who(Part.ASKS_FOR_DEMO))
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
        assert {verdict.recipe for verdict in person.not_started} == {CART, "cart-audience"}
        assert all("is below 50.00 EUR" in verdict.reason for verdict in person.not_started)
    for person in day.who(Part.LEAVES_TWICE):
        assert {(verdict.recipe, verdict.outcome) for verdict in person.not_started} == {
            (CART, "already_inside"),
            ("cart-audience", "already_inside"),
        }


def test_new_customers_are_welcomed_in_the_morning_not_in_the_night(day: Day) -> None:
    for person in day.who(Part.SIGNS_UP):
        (welcome,) = day.texts_to(person)
        assert "T09:00:" in welcome.at
    for person in day.who(Part.SIGNS_UP_AND_BUYS):
        assert effects(person, "welcome") == []
        assert end(person, "welcome-customer") == "shopify.order_paid"


# -- from a lead to a customer, over five tools ------------------------------------------------------------------------


def steps_done(person: PersonSeen, recipe: str = LEAD) -> list[str]:
    """The steps of somebody's effects in a recipe, in their order."""
    return [effect.step for effect in person.effects if effect.recipe == recipe]


def in_audience(day: Day, person: PersonSeen, recipe: str) -> bool:
    """Whether Meta's sandbox has somebody in a recipe's audience at the end, by its log of both kinds of calls."""
    audience, inside = AUDIENCES[recipe], False
    hashed = hashlib.sha256(person.email.encode()).hexdigest()
    for entry in day.outcome.sandboxes["facebook_ads"].log:
        if entry.data.get("audience") == audience and any(
            dict(row).get("EMAIL") == hashed for row in entry.data["rows"]
        ):
            inside = entry.operation == "add_users"
    return inside


def test_a_lead_who_opens_nothing_gets_a_text_and_ads_and_is_out_of_the_audience_with_the_purchase(day: Day) -> None:
    for person in day.who(Part.LEAD_BUYS):
        assert steps_done(person) == ["crm", "owner", "mail", "text", "ads", "won", "ads_off"]
        assert end(person, LEAD) == "shopify.order_paid"
        assert not in_audience(day, person, LEAD)
        (mail,), (text, thanks) = day.mails_to(person), day.texts_to(person)
        assert mail.at < text.at < thanks.at
        assert "10 %" in text.data["body"]


def test_who_opens_gets_no_text_and_who_looks_at_the_offer_a_call_of_their_owner(day: Day) -> None:
    for person in day.who(Part.LEAD_OPENS):
        assert steps_done(person) == ["crm", "owner", "mail", "ads", "won", "ads_off"]
    for person in day.who(Part.LEAD_CLICKS):
        assert steps_done(person) == ["crm", "owner", "mail", "task", "ads"]
        (task,) = [
            e for e in day.entries("hubspot", "create_tasks") if e.data["id"] == effects(person, "task")[0].proof
        ]
        (owner,) = effects(person, "owner")
        assert str(owner.proof).endswith(f" {task.data['properties']['hubspot_owner_id']}")
        assert in_audience(day, person, LEAD)


def test_who_buys_first_was_never_in_the_audience(day: Day) -> None:
    for person in day.who(Part.LEAD_BUYS_EARLY):
        assert steps_done(person) == ["crm", "owner", "won"]
        assert day.mails_to(person) == []


def test_a_lead_is_sent_what_the_boxes_of_the_form_allow_and_stop_allows_no_more(day: Day) -> None:
    for person in day.who(Part.LEAD_WITHOUT_CONSENT):
        assert steps_done(person) == ["crm", "owner"]
        assert refusal(person, "mail") == "no_consent"
    for person in day.who(Part.LEAD_STOPS):
        assert steps_done(person) == ["crm", "owner", "mail", "ads"]
        assert refusal(person, "text") == "suppressed: stop"


def test_an_opening_by_a_machine_is_none(day: Day) -> None:
    opened = day.outcome.events.by_type["mandrill.email_opened"]
    people = day.who(Part.LEAD_OPENS, Part.LEAD_CLICKS, Part.JOINS_AND_OPENS, Part.JOINS_AND_CLICKS)
    assert opened == len(people) + 1
    for person in day.who(Part.LEAD_SILENT):
        assert steps_done(person) == ["crm", "owner", "mail", "text", "ads"]


def test_a_lead_whose_webhook_was_lost_is_found_by_asking(day: Day) -> None:
    for person in day.who(Part.LEAD_MISSED):
        assert steps_done(person) == ["crm", "owner", "mail", "text", "ads"]


def test_owners_take_turns(day: Day) -> None:
    owners = {str(e.proof).split()[1] for person in day.outcome.people for e in effects(person, "owner")}
    assert owners == {"502", "503"}


# -- one tool each -----------------------------------------------------------------------------------------------------


def test_who_asks_for_a_demonstration_is_called_by_an_owner(day: Day) -> None:
    for person in day.who(Part.ASKS_FOR_DEMO):
        assert steps_done(person, "demo-request") == ["crm", "owner", "task"]


def test_who_does_not_open_the_welcome_gets_it_again(day: Day) -> None:
    for person in day.who(Part.JOINS_SILENTLY):
        first, second = day.mails_to(person)
        assert first.data["subject"] != second.data["subject"]
    for person in day.who(Part.JOINS_AND_OPENS, Part.JOINS_AND_CLICKS):
        assert len(day.mails_to(person)) == 1
    for person in day.who(Part.JOINS_AND_CLICKS):
        assert steps_done(person, "newsletter-welcome") == ["welcome", "interested"]


def test_every_order_is_a_member_of_the_audience_subscribed_only_with_consent(day: Day) -> None:
    orders = day.outcome.events.by_type["shopify.order_paid"]
    members = {entry.data["email_address"]: entry.data for entry in day.entries("mailchimp", "upsert_member")}
    assert len(members) == orders == len(day.entries("mailchimp", "upsert_member"))
    agreed = {person.email for person in day.who(Part.BUYS_WHILE_WAITING, Part.BUYS_AFTER_REMINDER)}
    assert {email for email, data in members.items() if data["status_if_new"] == "subscribed"} == agreed
    assert {data["status_if_new"] for data in members.values()} == {"subscribed", "transactional"}


def test_who_left_a_cart_is_in_the_audience_until_they_buy(day: Day) -> None:
    for person in day.who(Part.BUYS_WHILE_WAITING, Part.BUYS_AFTER_REMINDER):
        assert steps_done(person, "cart-audience") == ["ads", "ads_off"]
        assert not in_audience(day, person, "cart-audience")
    for person in day.who(Part.LEAVES_TWICE):
        assert steps_done(person, "cart-audience") == ["ads"]
        assert in_audience(day, person, "cart-audience")


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


def test_the_printed_report_names_everybody_or_counts_them_with_who_got_the_same_and_fits_the_screen(day: Day) -> None:
    lines = day.printed.splitlines()
    named = sum(any(line.startswith(person.name) for line in lines) for person in day.outcome.people)
    counted = sum(int(line.split()[1]) for line in lines if line.startswith("and ") and line.split()[2] == "more")

    assert named + counted == len(day.outcome.people)
    assert {f"who {person.part}" for person in day.outcome.people} <= {line.strip() for line in lines}
    assert max(map(len, lines)) <= 100
    assert len(lines) < 160


async def test_a_report_that_has_nowhere_to_go_is_refused_before_the_day_begins(tmp_path: Path) -> None:
    printed = io.StringIO()

    with pytest.raises(ConfigError, match="no folder"):
        await run_demo(Console(file=printed), tmp_path / "missing" / "day.json")

    assert printed.getvalue() == ""
