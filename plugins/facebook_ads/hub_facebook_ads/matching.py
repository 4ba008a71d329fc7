"""What Meta recognises people by: each key normalised and hashed as the Customer File Custom Audiences guide says.

v25.0, read 2026-11-22. What is normalised otherwise matches nobody, and Meta does not say so; so a value that cannot be one
becomes an empty cell instead of a hash of nonsense.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Callable, Mapping
from datetime import date

from pydantic import BaseModel, ConfigDict, Field

from hub import e164

# In the order of their columns; a schema is any part of it.
KEYS = (
    "EXTERN_ID", "EMAIL", "PHONE", "GEN", "DOBY", "DOBM", "DOBD", "LN", "FN", "FI", "CT", "ST", "ZIP", "COUNTRY", "MADID",
)  # fmt: skip
UNHASHED = frozenset({"EXTERN_ID", "MADID"})
# A row needs more to be somebody than a first name or a country.
_IDENTIFYING = frozenset({"EXTERN_ID", "EMAIL", "PHONE", "MADID"})
_WITH_NAME = frozenset({"ZIP", "CT", "DOBY"})

_HASHED = re.compile(r"[0-9a-f]{64}")
_MADID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_UK_POSTCODE = re.compile(r"([a-z]{1,2}[0-9][a-z0-9]?)([0-9])[a-z]{2}")
_ZIP_PLUS_4 = re.compile(r"([0-9]{5})-?[0-9]{4}")
_US_STATES = dict(
    pair.split(":")
    for pair in [
        "alabama:al",
        "alaska:ak",
        "arizona:az",
        "arkansas:ar",
        "california:ca",
        "colorado:co",
        "connecticut:ct",
        "delaware:de",
        "florida:fl",
        "georgia:ga",
        "hawaii:hi",
        "idaho:id",
        "illinois:il",
        "indiana:in",
        "iowa:ia",
        "kansas:ks",
        "kentucky:ky",
        "louisiana:la",
        "maine:me",
        "maryland:md",
        "massachusetts:ma",
        "michigan:mi",
        "minnesota:mn",
        "mississippi:ms",
        "missouri:mo",
        "montana:mt",
        "nebraska:ne",
        "nevada:nv",
        "newhampshire:nh",
        "newjersey:nj",
        "newmexico:nm",
        "newyork:ny",
        "northcarolina:nc",
        "northdakota:nd",
        "ohio:oh",
        "oklahoma:ok",
        "oregon:or",
        "pennsylvania:pa",
        "rhodeisland:ri",
        "southcarolina:sc",
        "southdakota:sd",
        "tennessee:tn",
        "texas:tx",
        "utah:ut",
        "vermont:vt",
        "virginia:va",
        "washington:wa",
        "westvirginia:wv",
        "wisconsin:wi",
        "wyoming:wy",
        "districtofcolumbia:dc",
    ]
)


class Identifiers(BaseModel):
    """What is known of a person; at least an e-mail address, a phone number, an own id or an advertising id.

    A value that is a SHA-256 already (64 digits of lower-case hex) is taken for the hash of the normalised one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True, str_strip_whitespace=False)

    email: str | None = None
    phone: str | None = Field(None, description="With its country code: +14155550100")
    external_id: str | None = Field(None, description="Your own id of the person; exactly the same text every time")
    first_name: str | None = None
    first_initial: str | None = None
    last_name: str | None = None
    gender: str | None = Field(None, description="m or f")
    birth_date: date | None = None
    city: str | None = None
    state: str | None = Field(None, description="In the US the two letters: CA")
    zip: str | None = None
    country: str | None = Field(None, description="Two letters: US")
    advertising_id: str | None = Field(None, description="Of a phone: IDFA or Android advertising id")


def cells(person: Identifiers) -> dict[str, str]:
    """The known keys of a person, normalised and hashed; without those that are empty."""
    normal = normalised(person)
    return {key: value if key in UNHASHED else hashed(value) for key, value in normal.items()}


def normalised(person: Identifiers) -> dict[str, str]:
    """The known keys of a person before hashing, in the order of `KEYS`; without those that are empty."""
    country = country_of(person.country or "")
    born = person.birth_date
    found = {
        "EXTERN_ID": person.external_id or "",
        "EMAIL": _kept(email_of, person.email),
        "PHONE": _kept(phone_of, person.phone),
        "GEN": _kept(gender_of, person.gender),
        "DOBY": f"{born.year:04}" if born else "",
        "DOBM": f"{born.month:02}" if born else "",
        "DOBD": f"{born.day:02}" if born else "",
        "LN": _kept(name_of, person.last_name),
        "FN": _kept(name_of, person.first_name),
        "FI": _kept(lambda text: name_of(text)[:1], person.first_initial),
        "CT": _kept(city_of, person.city),
        "ST": _kept(lambda text: state_of(text, country), person.state),
        "ZIP": _kept(lambda text: zip_of(text, country), person.zip),
        "COUNTRY": _kept(country_of, person.country),
        "MADID": madid_of(person.advertising_id or ""),
    }
    return {key: value for key, value in found.items() if value}


def identifies(keys: Mapping[str, str]) -> bool:
    """Whether these keys can be somebody: one that is theirs alone, or a whole name with where or when."""
    if not _IDENTIFYING.isdisjoint(keys):
        return True
    return "LN" in keys and bool({"FN", "FI"} & keys.keys()) and not _WITH_NAME.isdisjoint(keys)


def hashed(value: str) -> str:
    """SHA-256 of a normalised value in lower-case hex; one that is a hash already stays as it is."""
    return value if _HASHED.fullmatch(value) else hashlib.sha256(value.encode()).hexdigest()


def _kept(normalise: Callable[[str], str], given: str | None) -> str:
    if not given:
        return ""
    return given if _HASHED.fullmatch(given) else normalise(given)


# -- key by key --------------------------------------------------------------------------------------------------------


def email_of(text: str) -> str:
    """Trimmed and in lower case; empty where it is no address."""
    found = text.strip().lower()
    local, at, domain = found.partition("@")
    return found if local and at and "." in domain and not re.search(r"\s", found) else ""


def phone_of(text: str) -> str:
    """Digits only, without leading zeros, so that `+49…` and `0049…` are one number.

    The zero of `+44 (0)20…` is dialled within the country only, and is none of it.
    """
    text = e164(text) or text if "(0)" in text else text
    return re.sub(r"[^0-9]", "", text).lstrip("0")


def gender_of(text: str) -> str:
    """`m` or `f`; empty for everything else."""
    found = text.strip().lower()
    return {"male": "m", "female": "f"}.get(found, found if found in {"m", "f"} else "")


def name_of(text: str) -> str:
    """Lower case without punctuation; letters of every script stay, for `valéry` is not `valry`."""
    composed = unicodedata.normalize("NFC", text).strip().lower()
    return " ".join("".join(c for c in composed if unicodedata.category(c)[0] not in "PSC").split())


def city_of(text: str) -> str:
    """Letters a to z alone."""
    return re.sub(r"[^a-z]", "", text.lower())


def state_of(text: str, country: str = "") -> str:
    """In the US its two letters, also of a whole name; elsewhere lower case without punctuation and blanks."""
    letters = "".join(c for c in unicodedata.normalize("NFC", text).lower() if c.isalnum())
    return _US_STATES.get(letters, letters) if country == "us" else letters


def zip_of(text: str, country: str = "") -> str:
    """Lower case without blanks; of a US one five digits, of a UK one area, district and sector."""
    found = re.sub(r"\s", "", text).lower()
    if country in {"", "us"} and (plus_4 := _ZIP_PLUS_4.fullmatch(found)) and (country or "-" in found):
        return plus_4[1]
    if country in {"gb", "uk"} and (whole := _UK_POSTCODE.fullmatch(found)):
        return whole[1] + whole[2]
    return found


def country_of(text: str) -> str:
    """Two letters (ISO 3166-1 alpha-2) in lower case; empty for a name or three letters."""
    found = text.strip().lower()
    return found if re.fullmatch(r"[a-z]{2}", found) else ""


def madid_of(text: str) -> str:
    """Lower case with its hyphens; empty where it is none, or the one of whoever forbids tracking (all zeros)."""
    found = text.strip().lower()
    return found if _MADID.fullmatch(found) and set(found) - {"0", "-"} else ""
