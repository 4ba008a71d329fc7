"""What happened, in the hub's shape: events, whose they are, and the consent they carry."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import field
from datetime import datetime
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Any

import phonenumbers
from pydantic import BaseModel, ConfigDict

from hub.values import value

# A JSON value; recursive aliases cost more in readability than they check here.
Json = Any

# How many decimals a currency has when it is not two (ISO 4217, read 2026-11).
_EXPONENTS = {"BHD": 3, "IQD": 3, "JOD": 3, "KWD": 3, "LYD": 3, "OMR": 3, "TND": 3, "CLP": 0, "ISK": 0, "JPY": 0}
_EXPONENTS |= dict.fromkeys(
    ("KRW", "PYG", "UGX", "VND", "XAF", "XOF", "XPF", "RWF", "VUV", "DJF", "GNF", "KMF", "BIF"), 0
)
_MONEY = re.compile(r"\s*(-?\d+(?:\.\d+)?)\s+([A-Z]{3})\s*")


class Money(BaseModel):
    """An amount in integer minor units (cents) and its ISO 4217 currency. Written `50.00 EUR` in recipes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    amount_minor: int
    currency: str

    @classmethod
    def of(cls, amount: str | Decimal, currency: str) -> Money:
        """`Money.of("50.00", "EUR")`. Raises ValueError when the amount has more decimals than the currency."""
        try:
            minor = Decimal(amount).scaleb(_EXPONENTS.get(currency, 2))
        except InvalidOperation as error:
            raise ValueError(f"{amount!r} is no amount") from error
        if not minor.is_finite() or minor != minor.to_integral_value():
            raise ValueError(f"{amount} {currency} has more decimals than the currency")
        return cls(amount_minor=int(minor), currency=currency)

    @classmethod
    def parse(cls, text: str) -> Money:
        """`Money.parse("50.00 EUR")`. Raises ValueError."""
        match = _MONEY.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is no money; write an amount and a currency, such as 50.00 EUR")
        return cls.of(match[1], match[2])

    def __str__(self) -> str:
        digits = _EXPONENTS.get(self.currency, 2)
        return f"{Decimal(self.amount_minor).scaleb(-digits):.{digits}f} {self.currency}"


def e164(text: str, region: str | None = None) -> str | None:
    """A phone number in E.164 (`+14155550100`), or None when it is none. `region` helps numbers without a +."""
    try:
        number = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_possible_number(number):
        return None
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


@value(frozen=True)
class Identity:
    """Who an event is about, as the vendor knows them. `vendor` is their id in the connection's account.

    An identity without any id is anonymous: the event is stored and shown, and starts no run.
    """

    email: str | None = None
    phone: str | None = None
    vendor: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    language: str | None = None
    zone: str | None = None

    def keys(self, connection: str) -> list[tuple[str, str]]:
        """(kind, value) pairs in order of strength: the vendor's id, e-mail, phone; normalised for comparison."""
        found = []
        if self.vendor:
            found.append((f"id:{connection}", self.vendor))
        if self.email and "@" in self.email:
            found.append(("email", self.email.strip().lower()))
        if self.phone and (number := e164(self.phone)):
            found.append(("phone", number))
        return found

    def attributes(self) -> dict[str, str]:
        """What it tells about the person beside ids; only what is known."""
        pairs = {
            "first_name": self.first_name,
            "last_name": self.last_name,
            "language": self.language,
            "zone": self.zone,
        }
        return {name: value for name, value in pairs.items() if value}


CHANNELS = {"email": ("email",), "phone": ("sms", "whatsapp", "voice")}
"""On which channels somebody is reached by an identity of a kind; of other kinds nobody is."""


def addresses(keys: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The (channel, address) pairs under which identities (kind, value) may stand in the consent ledger."""
    return [(channel, value) for kind, value in keys for channel in CHANNELS.get(kind, ())]


class ConsentState(StrEnum):
    """What a person or vendor said about one address on one channel."""

    GRANTED = "granted"
    """May be written to for the purpose."""
    REVOKED = "revoked"
    """Marketing must stop (an unsubscribe); messages about the person's own business may go on."""
    BLOCKED = "blocked"
    """Hard suppression: STOP on the channel, a hard bounce, a complaint, an erasure. Nothing may leave."""


@value(frozen=True)
class ConsentSignal:
    """One statement for the consent ledger. `purpose` `*` means every purpose of the channel.

    `at` (aware) is when it was said, where the vendor tells that with every later change, too: without it a yes of last year
    would count as one of today, and overrule a no in between. None = when the event occurred.
    """

    channel: str
    address: str
    state: ConsentState
    reason: str
    purpose: str = "*"
    at: datetime | None = None

    def said_at_ms(self, told_at_ms: int) -> int:
        """When it was said; `told_at_ms` where the vendor does not say that."""
        return round(self.at.timestamp() * 1000) if self.at else told_at_ms


@value(frozen=True)
class Event:
    """An immutable record of something that happened.

    `type` is `connector.trigger`; `fact_id` is the same however we learnt of it (webhook, doubled subscription, poll);
    `data` is the payload model as JSON values; `correlate` maps the fields that `match` may use to their values.
    """

    type: str
    fact_id: str
    occurred_at_ms: int
    data: Mapping[str, Json]
    subject: Identity | None = None
    correlate: Mapping[str, str] = field(default_factory=dict)
    consents: tuple[ConsentSignal, ...] = ()
    account: str | None = None
    """The vendor account it happened in, where one delivery serves several; None = that of the delivery."""
    cause: str | None = None
    """The `reference` of the effect of ours that caused it, where the vendor gives that back."""
