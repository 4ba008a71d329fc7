"""The made-up people of the demo: who they are, and what each does in the story. Owns nothing of when they do it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Part(StrEnum):
    """What somebody does during the day; the value says it in the report."""

    LEAVES = "leaves a cart"
    LEAVES_IN_A_CROWD = "leaves a cart, Twilio throttles"
    LEAVES_ANSWER_LOST = "leaves a cart, Twilio's answer is lost"
    LEAVES_TWICE = "leaves two carts"
    LEAVES_FORGED = "leaves a cart, a forged order comes"
    ANSWERS = "leaves a cart, answers"
    BUYS_WHILE_WAITING = "leaves a cart, buys in time"
    BUYS_AT_THE_LAST_SECOND = "buys a second before the send"
    BUYS_AFTER_REMINDER = "buys after the reminder"
    STOPS_WHILE_WAITING = "leaves a cart, texts STOP"
    STOPS_THEN_BUYS = "texts STOP, then buys"
    STOPS_AS_ANSWER = "answers STOP"
    NO_CONSENT = "leaves a cart, never agreed"
    NO_CONSENT_BUYS = "never agreed, buys later"
    TOO_CHEAP = "leaves a cheap cart"
    FINISHES = "buys at once"
    UNDELIVERABLE = "has a number out of service"
    SIGNS_UP = "signs up"
    SIGNS_UP_WITHOUT_CONSENT = "signs up, does not agree"
    SIGNS_UP_AND_BUYS = "signs up, buys before nine"
    LEAD_BUYS = "fills in a lead ad, opens nothing, buys"
    LEAD_OPENS = "fills in a lead ad, opens, buys"
    LEAD_CLICKS = "fills in a lead ad, looks at the offer"
    LEAD_SILENT = "fills in a lead ad and is silent"
    LEAD_BUYS_EARLY = "fills in a lead ad, buys at once"
    LEAD_WITHOUT_CONSENT = "fills in a lead ad, agrees to nothing"
    LEAD_STOPS = "fills in a lead ad, texts STOP"
    LEAD_MISSED = "fills in a lead ad, no webhook comes"
    ASKS_FOR_DEMO = "asks for a demonstration"
    JOINS_AND_OPENS = "joins the newsletter, opens"
    JOINS_AND_CLICKS = "joins the newsletter, clicks"
    JOINS_SILENTLY = "joins the newsletter, opens nothing"


@dataclass(frozen=True)
class Person:
    """Somebody who does not exist."""

    first_name: str
    last_name: str
    phone: str
    part: Part

    @property
    def name(self) -> str:
        """As people are shown."""
        return f"{self.first_name} {self.last_name}"

    @property
    def email(self) -> str:
        """Unique in the cast."""
        return f"{self.first_name}.{self.last_name}@example.com".lower()

    @property
    def consents(self) -> bool:
        """Whether the box for marketing by SMS is ticked."""
        return self.part not in {Part.NO_CONSENT, Part.NO_CONSENT_BUYS, Part.SIGNS_UP_WITHOUT_CONSENT}

    @property
    def consents_to_email(self) -> bool:
        """Whether the shop's box for marketing by e-mail is ticked."""
        return self.part in {Part.LEAVES_TWICE, Part.BUYS_WHILE_WAITING, Part.BUYS_AFTER_REMINDER}


_HOW_MANY = {
    Part.LEAVES: 11,
    Part.LEAVES_IN_A_CROWD: 4,
    Part.LEAVES_ANSWER_LOST: 1,
    Part.LEAVES_TWICE: 2,
    Part.LEAVES_FORGED: 1,
    Part.ANSWERS: 4,
    Part.BUYS_WHILE_WAITING: 5,
    Part.BUYS_AT_THE_LAST_SECOND: 1,
    Part.BUYS_AFTER_REMINDER: 4,
    Part.STOPS_WHILE_WAITING: 2,
    Part.STOPS_THEN_BUYS: 1,
    Part.STOPS_AS_ANSWER: 1,
    Part.NO_CONSENT: 4,
    Part.NO_CONSENT_BUYS: 1,
    Part.TOO_CHEAP: 4,
    Part.FINISHES: 4,
    Part.UNDELIVERABLE: 1,
    Part.SIGNS_UP: 4,
    Part.SIGNS_UP_WITHOUT_CONSENT: 1,
    Part.SIGNS_UP_AND_BUYS: 1,
    Part.LEAD_BUYS: 2,
    Part.LEAD_OPENS: 1,
    Part.LEAD_CLICKS: 2,
    Part.LEAD_SILENT: 2,
    Part.LEAD_BUYS_EARLY: 1,
    Part.LEAD_WITHOUT_CONSENT: 1,
    Part.LEAD_STOPS: 1,
    Part.LEAD_MISSED: 1,
    Part.ASKS_FOR_DEMO: 3,
    Part.JOINS_AND_OPENS: 2,
    Part.JOINS_AND_CLICKS: 1,
    Part.JOINS_SILENTLY: 2,
}
LEADS = frozenset(part for part in Part if part.name.startswith("LEAD_"))
JOINS = frozenset(part for part in Part if part.name.startswith("JOINS_"))

# Names read better as a text than as a list of 76 quoted ones.
_FIRST = (  # noqa: SIM905
    "Ada Alma Amir Anouk Aylin Bao Bea Bruno Carla Cem Chidi Dana Deniz Elif Emre Esra Farid Fleur Gita Hana "
    "Hugo Ines Ivan Jale Jonas Kaan Kira Lale Leo Lina Luca Maja Marek Mei Mert Mina Nadia Nico Nora Olga "
    "Omar Paolo Petra Rana Remy Rosa Sami Selin Sofia Tariq Tove Umut Vera Wanda Yara Yusuf Zeki "
    "Adem Berk Cleo Dora Eda Filiz Goran Hera Ilse Juno Kemal Lotte Maya Nils Ozan Pia Rui Suna Timur"
).split()
_LAST = "Acar Bloom Costa Demir Ekin Frost Gomes Hansen Ibsen Jansen Kaya".split()  # noqa: SIM905


def everybody() -> Sequence[Person]:
    """Everybody, in the order of their parts; the same people each time."""
    parts = [part for part, count in _HOW_MANY.items() for _ in range(count)]
    return [
        Person(first_name, _LAST[number % len(_LAST)], f"+1415555{100 + number:04}", part)
        for number, (first_name, part) in enumerate(zip(_FIRST, parts, strict=True))
    ]
