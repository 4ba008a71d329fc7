"""The plan of the day: what happens when, as calls to the sandboxes. Pure, and the same each time."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hub.demo.people import JOINS, LEADS, Part, Person
from hub.events import Json

M, H = 60, 3600
STARTS_AT_H = 8
PAGE = "111"
"""The Page at Meta whose lead ads people fill in."""
LASTS_S = 40 * H
"""From eight in the morning to midnight of the next day, when everybody's story has ended."""

ASKED_UNTIL_S = 3 * H
"""From when nobody fills in a form any more, so that vendors need not be asked for news."""

_SEED = 20261122
# One shop cart after the other is left between 8:20 and 10:05; those of whom more is told follow on their own.
_FIRST_CART_S, _BETWEEN_CARTS_S = 20 * M, 140
_CROWD_S, _LOST_S, _LAST_SECOND_S = 150 * M, 165 * M, 175 * M
# A cart is abandoned after half an hour, and its reminder leaves four hours later.
_TO_REMINDER_S = 30 * M + 4 * H
_SHOPIFY_THROTTLES_S, _BUSY_S = 4 * H, 60
_FIRST_LEAD_S, _BETWEEN_LEADS_S = 60 * M, 6 * M
# How many orders come by two subscriptions.
_DOUBLED = 4

_GOODS = (("Wool scarf", "SC-1"), ("Linen shirt", "LS-4"), ("Walnut bowl", "WB-2"), ("Copper kettle", "CK-7"))
_ANSWERS = ("Yes, I am coming back tonight!", "Do you ship to Izmir?", "Is it warm enough for winter?", "Later, thanks")
_SIGN_UPS = {Part.SIGNS_UP, Part.SIGNS_UP_WITHOUT_CONSENT, Part.SIGNS_UP_AND_BUYS}
_WITHOUT_CART = _SIGN_UPS | LEADS | JOINS | {Part.ASKS_FOR_DEMO}
_OF_THEIR_OWN = {Part.LEAVES_IN_A_CROWD, Part.LEAVES_ANSWER_LOST, Part.BUYS_AT_THE_LAST_SECOND}


@dataclass(frozen=True)
class Moment:
    """One call to a sandbox's `/_sandbox/{what}`, so many seconds after the day's start.

    `answered` is the hub's status that the sandbox must report, None where it calls nobody; `repeats` marks a webhook
    that says nothing new.
    """

    at_s: int
    connector: str
    what: str
    story: str
    fields: Mapping[str, Json] = field(default_factory=dict)
    answered: int | None = 200
    repeats: bool = False


def plan(people: Sequence[Person], start_ms: int) -> list[Moment]:
    """Everything that happens on the day, in order. `start_ms` is hub time at its start."""
    day = _Day(start_ms)
    day.carts(people)
    day.answers(people)
    day.orders(people)
    day.sign_ups(people)
    day.leads(people)
    day.requests(people)
    day.readers(people)
    day.strangers()
    day.troubles()
    return sorted(day.moments, key=lambda moment: moment.at_s)


class _Day:
    def __init__(self, start_ms: int) -> None:
        self.moments: list[Moment] = []
        self._start_ms = start_ms
        self._random = random.Random(_SEED)  # noqa: S311  (makes up a story, guards nothing)
        self._left_s: dict[Person, int] = {}
        self._orders = 0

    def _add(self, at_s: int, connector: str, what: str, story: str, fields: Mapping[str, Json], **more: Json) -> None:
        self.moments.append(Moment(at_s, connector, what, story, fields, **more))

    # -- carts -----------------------------------------------------------------------------------------------------

    def carts(self, people: Sequence[Person]) -> None:
        """Everybody's checkouts: begun, changed a few times, and then left or bought."""
        crowd = [p for p in people if p.part not in _WITHOUT_CART | _OF_THEIR_OWN]
        self._random.shuffle(crowd)
        for number, person in enumerate(crowd):
            last_s = _FIRST_CART_S + number * _BETWEEN_CARTS_S + self._random.randrange(100)
            self._cart(person, last_s, repeated=number % 9 == 0)
            if person.part is Part.LEAVES_TWICE:
                self._cart(person, 8 * H + number * M, second=True)
        for person in people:
            if person.part is Part.LEAVES_IN_A_CROWD:
                self._cart(person, _CROWD_S)
            elif person.part is Part.LEAVES_ANSWER_LOST:
                self._cart(person, _LOST_S)
            elif person.part is Part.BUYS_AT_THE_LAST_SECOND:
                self._cart(person, _LAST_SECOND_S)

    def _cart(self, person: Person, last_s: int, *, second: bool = False, repeated: bool = False) -> None:
        if not second:
            self._left_s[person] = last_s
        title, sku = self._random.choice(_GOODS)
        price = self._random.randrange(15, 40) if person.part is Part.TOO_CHEAP else self._random.randrange(55, 140)
        changes = sorted(self._random.sample(range(1, 20), self._random.randrange(5)), reverse=True)
        fields = {
            "token": _token(person, second),
            "email": person.email,
            "phone": person.phone,
            "customer": {"first_name": person.first_name, "last_name": person.last_name},
            "total_price": f"{price}.00",
            "line_items": [{"title": title, "quantity": 1, "price": f"{price}.00", "sku": sku}],
            "buyer_accepts_marketing": person.consents_to_email,
            "buyer_accepts_sms_marketing": person.consents,
            "sms_marketing_phone": person.phone if person.consents else None,
        }
        for before_m in changes:
            self._add(last_s - before_m * M, "shopify", "checkout", f"{person.name} fills a cart", fields)
        named = {"webhook_id": f"demo-{person.phone[-4:]}"} if repeated else {}
        self._add(last_s, "shopify", "checkout", f"{person.name} fills a cart", {**fields, **named})
        for later_s in (M, 5 * M) if repeated else ():
            story = f"Shopify sends {person.name}'s cart again"
            self._add(last_s + later_s, "shopify", "checkout", story, {**fields, **named}, repeats=True)

    # -- what people do then ---------------------------------------------------------------------------------------

    def answers(self, people: Sequence[Person]) -> None:
        """Who texts back, and who texts STOP."""
        texts = {
            Part.STOPS_WHILE_WAITING: (4 * H + 10 * M, "STOP"),
            Part.STOPS_THEN_BUYS: (4 * H + 25 * M, "stop"),
            Part.STOPS_AS_ANSWER: (8 * H + 20 * M, "Stop"),
        }
        for number, person in enumerate(people):
            if person.part is Part.ANSWERS:
                self._text(person, 8 * H + 30 * M + number % 4 * 7 * M, _ANSWERS[number % len(_ANSWERS)])
            elif person.part in texts:
                at_s, body = texts[person.part]
                self._text(person, at_s + number % 3 * 2 * M, body)

    def _text(self, person: Person, at_s: int, body: str) -> None:
        self._add(at_s, "twilio", "text", f"{person.name} texts {body!r}", {"from_number": person.phone, "body": body})

    def orders(self, people: Sequence[Person]) -> None:
        """Who buys, and when."""
        waiting = 0
        for number, person in enumerate(people):
            match person.part:
                case Part.FINISHES:
                    self._order(person, self._left_s[person] + self._random.randrange(4, 12) * M)
                case Part.BUYS_WHILE_WAITING:
                    # The first two pay while Shopify takes no calls.
                    early_s = _SHOPIFY_THROTTLES_S + 20 + waiting * 5
                    self._order(person, early_s if waiting < 2 else early_s + waiting * 6 * M)
                    waiting += 1
                case Part.BUYS_AT_THE_LAST_SECOND:
                    self._order(person, self._left_s[person] + _TO_REMINDER_S - 1)
                case Part.BUYS_AFTER_REMINDER:
                    self._order(person, 9 * H + number % 4 * 20 * M)
                case Part.NO_CONSENT_BUYS:
                    self._order(person, 10 * H + 30 * M)
                case Part.STOPS_THEN_BUYS:
                    self._order(person, 12 * H)
                case Part.SIGNS_UP_AND_BUYS:
                    self._order(person, 23 * H + 30 * M)

    def _order(self, person: Person, at_s: int) -> None:
        self._orders += 1
        fields: dict[str, Json] = {
            "id": 6_100_000_000_000 + self._orders,
            "email": person.email,
            "phone": person.phone,
            "customer": {"first_name": person.first_name, "last_name": person.last_name},
            "buyer_accepts_marketing": person.consents_to_email,
        }
        if person.part not in _WITHOUT_CART:
            fields["checkout_token"] = _token(person)
        self._add(at_s, "shopify", "order", f"{person.name} buys", fields)
        if self._orders > _DOUBLED:
            return
        # A second subscription tells the same under another webhook id, and then tells it again.
        again = {**fields, "topics": ["orders/paid"], "webhook_id": f"demo-order-{self._orders}"}
        for later_s in (2, 90):
            story = f"{person.name}'s order is told again"
            self._add(at_s + later_s, "shopify", "order", story, again, repeats=True)

    def sign_ups(self, people: Sequence[Person]) -> None:
        """New customers of the evening."""
        new = [p for p in people if p.part in _SIGN_UPS]
        for number, person in enumerate(new):
            fields = {
                "email": person.email,
                "phone": person.phone,
                "first_name": person.first_name,
                "last_name": person.last_name,
                "sms_marketing_consent": {"state": "subscribed" if person.consents else "not_subscribed"},
            }
            self._add(9 * H + 10 * M + number * 47 * M, "shopify", "customer", f"{person.name} signs up", fields)

    # -- leads, requests, readers --------------------------------------------------------------------------------------

    def leads(self, people: Sequence[Person]) -> None:
        """Who fills in a lead ad, and what they do then. The e-mail leaves ten minutes later."""
        for number, person in enumerate(p for p in people if p.part in LEADS):
            at_s = _FIRST_LEAD_S + number * _BETWEEN_LEADS_S
            ticked = person.part is not Part.LEAD_WITHOUT_CONSENT
            fields: dict[str, Json] = {
                "answers": {
                    "email": person.email,
                    "phone_number": person.phone,
                    "first_name": person.first_name,
                    "last_name": person.last_name,
                },
                "ticked": {"offers_by_email": ticked, "offers_by_sms": ticked},
                "ad_id": "23850000009001",
            }
            story = f"{person.name} fills in a lead ad"
            if person.part is Part.LEAD_MISSED:
                self._add(at_s, "facebook_ads", "lead", story, {**fields, "page": PAGE}, answered=None)
            else:
                self._add(at_s, "facebook_ads", "lead", story, fields)
            self._after_lead(person, at_s, first=number % 2 == 0)

    def _after_lead(self, person: Person, at_s: int, *, first: bool) -> None:
        match person.part:
            case Part.LEAD_BUYS:
                self._order(person, 32 * H + (0 if first else 40 * M))
            case Part.LEAD_OPENS:
                self._mail(person, at_s + 40 * M, "open")
                self._order(person, 10 * H)
            case Part.LEAD_CLICKS:
                self._mail(person, at_s + 30 * M, "open")
                self._mail(person, at_s + 31 * M, "click", url="https://shop.example.com/first")
            case Part.LEAD_SILENT:
                if first:
                    # A mail program fetches what is in the e-mail as soon as it is there.
                    self._mail(person, at_s + 10 * M + 6, "open")
            case Part.LEAD_BUYS_EARLY:
                self._order(person, at_s + 5 * M)
            case Part.LEAD_STOPS:
                self._text(person, at_s + 3 * H, "STOP")

    def _mail(self, person: Person, at_s: int, event: str, **more: Json) -> None:
        story = f"{person.name} {event}s an e-mail"
        self._add(at_s, "mandrill", "act", story, {"to": person.email, "event": event, **more}, answered=None)

    def requests(self, people: Sequence[Person]) -> None:
        """Who asks for a demonstration, by a form on the website."""
        for number, person in enumerate(p for p in people if p.part is Part.ASKS_FOR_DEMO):
            fields = {
                "email": person.email,
                "phone": person.phone,
                "firstname": person.first_name,
                "lastname": person.last_name,
                "message": "When may we see it?",
            }
            story = f"{person.name} asks for a demonstration"
            self._add(2 * H + number * 13 * M, "hubspot", "submission", story, fields, answered=None)

    def readers(self, people: Sequence[Person]) -> None:
        """Who joins the newsletter, and reads the welcome or does not."""
        for number, person in enumerate(p for p in people if p.part in JOINS):
            at_s = 90 * M + number * 11 * M
            fields = {"email": person.email, "FNAME": person.first_name, "LNAME": person.last_name}
            self._add(at_s, "mailchimp", "subscribe", f"{person.name} joins the newsletter", fields, answered=None)
            if person.part is not Part.JOINS_SILENTLY:
                self._mail(person, at_s + 25 * M, "open")
            if person.part is Part.JOINS_AND_CLICKS:
                self._mail(person, at_s + 26 * M, "click", url="https://shop.example.com")

    # -- what a day also brings ------------------------------------------------------------------------------------

    def strangers(self) -> None:
        """Calls about nobody, of nobody, and in the name of others."""
        guest: dict[str, Json] = {"customer": None, "email": None}
        self._add(
            1 * H, "shopify", "checkout", "somebody without a name fills a cart", {**guest, "token": "demo-guest"}
        )
        unknown = {**guest, "token": "demo-odd", "topics": ["themes/publish"]}
        self._add(1 * H + M, "shopify", "checkout", "Shopify tells of a topic nobody asked for", unknown)
        forged = {**guest, "token": "demo-forged", "signed": False}
        self._add(4 * H + 16 * M, "shopify", "checkout", "somebody forges a webhook", forged, answered=401)
        for person in (p for p in self._left_s if p.part is Part.LEAVES_FORGED):
            order = {"email": person.email, "checkout_token": _token(person), "signed": False}
            story = f"somebody forges an order of {person.name}"
            self._add(4 * H + 15 * M, "shopify", "order", story, order, answered=401)

    def troubles(self) -> None:
        """The vendors' bad minutes."""
        self._throttle("shopify", _SHOPIFY_THROTTLES_S)
        self._throttle("mailchimp", _SHOPIFY_THROTTLES_S)
        self._throttle("twilio", _CROWD_S + _TO_REMINDER_S - 10)
        # Of the third and fourth lead nothing can be read at first; the e-mails of the next two have to wait.
        self._throttle("facebook_ads", _FIRST_LEAD_S + 2 * _BETWEEN_LEADS_S - 10)
        self._throttle("hubspot", _FIRST_LEAD_S + 3 * _BETWEEN_LEADS_S - 10)
        self._throttle("mandrill", _FIRST_LEAD_S + 4 * _BETWEEN_LEADS_S + 10 * M - 10)
        lost_s = _LOST_S + _TO_REMINDER_S - 10
        self._add(lost_s, "twilio", "faults", "Twilio's next answer is lost", {"drop_answers": 1}, answered=None)

    def _throttle(self, connector: str, at_s: int) -> None:
        until_ms = self._start_ms + (at_s + _BUSY_S) * 1000
        story = f"{connector} takes no calls for a minute"
        self._add(at_s, connector, "faults", story, {"throttle_until_ms": until_ms}, answered=None)


def _token(person: Person, second: bool = False) -> str:
    return f"demo-{person.phone[-4:]}{'-2' if second else ''}"
