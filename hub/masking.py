"""Made-up values in place of what belongs to people or is secret, of the same shape. Pure but for the key of each `Masks`.

What is masked is told by a field's name and by a value's shape; the same value gets the same mask within one `Masks`.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
import secrets
import string
from collections.abc import Callable, Iterable, Sequence
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import phonenumbers

from hub.events import Json

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_SPELLING = re.compile(r"\w+|\W")
# Begun only where a word begins: from every letter of a long one, such as a picture in base64, it would take its square.
_EMAIL = re.compile(r"(?<![\w.+'-])[\w.+'-]+@[\w-]+(?:\.[\w-]+)+")
_PHONE = re.compile(r"\+\d[\d\s().-]{5,18}\d")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_SECRET = re.compile(r"(?=[^a-zA-Z]*[a-zA-Z])(?=\D*\d)[\w+/=.:~-]{20,}")
_HEX = re.compile(r"[0-9a-fA-F-]{12,}")
# What tells the kind of an id or token stands before it: SM, shpat_, gid://shopify/Customer/
_PREFIX = re.compile(r"[A-Z]{2}(?=[0-9a-f]{32}$)|[a-z]+_(?=\w{8})|[a-z]+://[\w/]+/(?=\d+$)")

_SECRETS = frozenset(
    [
        "token",
        "secret",
        "signature",
        "sig",
        "password",
        "passwd",
        "hmac",
        "authorization",
        "auth",
        "cookie",
        "session",
        "apikey",
        "credential",
        "jwt",
    ]
)
_NAMES = frozenset(["name", "firstname", "lastname", "fullname", "surname", "nickname", "username"])
# Names of things, which are nobody's.
_THINGS = frozenset(
    ["source", "event", "file", "field", "product", "variant", "plan", "campaign", "list", "host", "api", "topic"]
)
_PLACES = frozenset(
    [
        "address1",
        "address2",
        "address",
        "street",
        "city",
        "zip",
        "postcode",
        "postal",
        "latitude",
        "longitude",
        "company",
    ]
)
_PHONES = frozenset(["phone", "mobile", "tel", "telephone", "msisdn", "fax", "whatsapp"])
_TEXTS = frozenset(
    ["note", "notes", "body", "message", "comment", "comments", "description", "text", "content", "remark"]
)
_BIRTHS = frozenset(["birthday", "birthdate", "dob"])
_IDS = frozenset(["id", "sid", "gid", "uid", "uuid"])
_LONG_ID = 6
# Shorter ones, found elsewhere by chance, would spoil other words.
_SHORTEST_ELSEWHERE = 4


class Masks:
    """The masks of one capture."""

    def __init__(self, key: bytes | None = None) -> None:
        self.key = key or secrets.token_bytes(32)
        self._known: dict[str, str] = {}
        self._spelt = _Spelt()
        self._places: dict[str, dict[str, None]] = {}

    @property
    def found(self) -> dict[str, list[str]]:
        """The places where each kind stood, in the order in which they were met."""
        return {kind: list(places) for kind, places in self._places.items()}

    def json(self, value: Json, place: str = "") -> Json:
        """A JSON value with everything in it masked; `place` is where it stands."""
        self._walk(value, place, place)  # what is found in one field is looked for in those before it, too
        return self._walk(value, place, place)

    def pairs(self, pairs: Iterable[tuple[str, str]], place: str = "") -> list[tuple[str, str]]:
        """The pairs of a form, a query string or headers, masked."""
        given = list(pairs)
        for _ in range(2):  # what is found in one field is looked for in those before it, too
            masked = [(name, str(self._leaf(value, name, f"{place}{name}"))) for name, value in given]
        return masked

    def text(self, value: str, place: str) -> str:
        """A text of which nothing is known: addresses in it are masked."""
        return str(self._leaf(value, "", place))

    def _walk(self, value: Json, name: str, place: str) -> Json:
        if isinstance(value, dict):
            inner = f"{place}." if place else ""
            return {key: self._walk(one, key, f"{inner}{key}") for key, one in value.items()}
        if isinstance(value, list):
            return [self._walk(one, name, f"{place}[]") for one in value]
        return self._leaf(value, name, place)

    def _leaf(self, value: Json, name: str, place: str) -> Json:
        if isinstance(value, bool) or value is None or value == "":
            return value
        kind = _kind(value, {word.lower() for word in _WORDS.findall(name)}, _last(name))
        if isinstance(value, int | float):
            return self._number(value, kind, place) if kind else value
        text = str(value)
        masked = self._masked(text, kind) if kind else self._elsewhere(text)
        if masked != text:
            self._note(kind or "text with somebody's data", place)
        return masked

    def _note(self, kind: str, place: str) -> None:
        self._places.setdefault(kind, {})[place] = None

    def _number(self, value: float, kind: str, place: str) -> float:
        given, number = str(value), type(value)
        stream = iter(self._stream(given, len(given)))
        # Never a zero, which at the beginning would make it shorter.
        masked = re.sub(r"\d", lambda _: str(next(stream) % 9 + 1), given)
        self._note(kind, place)
        return number(masked)

    def _masked(self, text: str, kind: str) -> str:
        if text in self._known:
            return self._known[text]
        by_kind: dict[str, Callable[[str], str]] = {
            "e-mail": self._email,
            "phone": self._phone,
            "IP address": self._ip,
            "date of birth": lambda given: _DATE.sub(f"1990-01-{1 + self._stream(given, 1)[0] % 28:02}", given),
            "link": self._link,
        }
        masked = by_kind.get(kind, self._shaped)(text)
        self._known[text] = masked
        if len(text) >= _SHORTEST_ELSEWHERE:
            self._spelt.add(text, masked)
        return masked

    def _elsewhere(self, text: str) -> str:
        """A text that is nothing by itself, without the people that it may speak of."""
        text = _EMAIL.sub(lambda found: self._masked(found[0], "e-mail"), text)
        text = _PHONE.sub(lambda found: self._masked(found[0], "phone"), text)
        return self._spelt.replaced(text)

    # -- one kind each -------------------------------------------------------------------------------------------------

    def _stream(self, text: str, length: int) -> bytes:
        return hashlib.shake_256(self.key + text.encode(errors="surrogatepass")).digest(length)

    def _shaped(self, text: str) -> str:
        """Digits for digits and letters for letters, of the same case; the rest stays, and what tells the kind."""
        prefix = _PREFIX.match(text)
        kept, rest = (prefix[0], text[prefix.end() :]) if prefix else ("", text)
        is_hex, made = bool(_HEX.fullmatch(rest)), []
        for place, (letter, byte) in enumerate(zip(rest, self._stream(text.lower(), len(rest)), strict=True)):
            if is_hex and letter in string.hexdigits and not rest.isdigit():
                made.append(
                    "0123456789abcdef"[byte % 16].upper() if letter.isupper() else "0123456789abcdef"[byte % 16]
                )
            elif letter.isdecimal():
                made.append(str(byte % 9 + 1 if place == 0 and letter != "0" else byte % 10))
            elif letter.isalpha():
                made.append((string.ascii_uppercase if letter.isupper() else string.ascii_lowercase)[byte % 26])
            else:
                made.append(letter)
        return kept + "".join(made)

    def _email(self, text: str) -> str:
        return f"{self._shaped(text.partition('@')[0])}@example.com"

    def _phone(self, text: str) -> str:
        """Another number of the same country and length."""
        channel, joint, number = text.rpartition(":")
        try:
            kept = len(str(phonenumbers.parse(number, None).country_code))
        except phonenumbers.NumberParseException:
            kept = 0
        digits = re.sub(r"\D", "", number)
        stream, made, seen = self._stream(digits, len(digits)), [], 0
        for letter in number:
            if letter.isdecimal():
                # No number of a country begins with 0 or 1 everywhere.
                new = stream[seen] % 8 + 2 if seen == kept else stream[seen] % 10
                made.append(letter if seen < kept else str(new))
                seen += 1
            else:
                made.append(letter)
        return f"{channel}{joint}{''.join(made)}"

    def _ip(self, text: str) -> str:
        last = self._stream(text, 1)[0]
        return f"203.0.113.{last}" if ipaddress.ip_address(text).version == 4 else f"2001:db8::{last:x}"

    def _link(self, text: str) -> str:
        parts = urlsplit(text)
        path = "/".join(self._shaped(one) if _tells(one) else one for one in parts.path.split("/"))
        query = [(n, self._shaped(v) if _tells(v) else v) for n, v in parse_qsl(parts.query, keep_blank_values=True)]
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], path, urlencode(query), ""))


class _Spelt:
    """Known texts by the words that they are spelt with: a text is looked through once, however many are known."""

    def __init__(self) -> None:
        self._next: dict[str, _Spelt] = {}
        self._mask: str | None = None

    def add(self, known: str, mask: str) -> None:
        here = self
        for part in _SPELLING.findall(known):
            here = here._next.setdefault(part, _Spelt())
        here._mask = mask

    def replaced(self, text: str) -> str:
        """The text with the mask of each known one that stands there in whole words; at one place the longest counts."""
        parts, made, place = _SPELLING.findall(text), list[str](), 0
        while place < len(parts):
            end, mask = self._longest(parts, place)
            made.append(parts[place] if mask is None else mask)
            place = end
        return "".join(made)

    def _longest(self, parts: Sequence[str], begin: int) -> tuple[int, str | None]:
        """Where the longest known text that begins at a part ends, and its mask; else the next part."""
        here = self
        found: tuple[int, str | None] = begin + 1, None
        for place in range(begin, len(parts)):
            following = here._next.get(parts[place])
            if following is None:
                break
            here = following
            if here._mask is not None:
                found = (place + 1, here._mask)
        return found


def _last(name: str) -> str:
    words = _WORDS.findall(name)
    return words[-1].lower() if words else ""


def _kind(value: Json, words: set[str], last: str) -> str | None:
    """What a field holds that must not be told, or None."""
    text = str(value)
    if isinstance(value, str):
        if _EMAIL.fullmatch(text):
            return "e-mail"
        if _is_ip(text):
            return "IP address"
        if text.startswith(("http://", "https://")):
            return "link"
        if _PHONE.fullmatch(text.rpartition(":")[2]):
            return "phone"
    if words & _BIRTHS:
        return "date of birth"
    if _DATE.match(text):
        return None
    by_name = {
        "token": words & _SECRETS,
        "phone": words & _PHONES,
        "postal address": words & _PLACES or any(f"{a}1" in words or f"{a}2" in words for a in ("address", "line")),
        "name": last in _NAMES and not words & _THINGS,
        "text": last in _TEXTS,
        "id": last in _IDS and len(text) >= _LONG_ID and any(letter.isdecimal() for letter in text),
    }
    found = next((kind for kind, holds in by_name.items() if holds), None)
    return found or ("token" if isinstance(value, str) and _SECRET.fullmatch(text) else None)


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _tells(part: str) -> bool:
    """Whether a part of a link may be somebody's own."""
    return len(part) >= 16 or any(letter.isdecimal() for letter in part) or "@" in part
