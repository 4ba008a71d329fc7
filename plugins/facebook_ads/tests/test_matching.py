"""That people are normalised and hashed as Meta does it: its own vectors, and its own library as a witness."""

from __future__ import annotations

import hashlib
from datetime import date

import pytest
from facebook_business.adobjects.customaudience import CustomAudience
from facebook_business.adobjects.serverside.normalize import Normalize
from hypothesis import given
from hypothesis import strategies as st

from hub_facebook_ads.matching import KEYS, UNHASHED, Identifiers, cells, hashed, identifies, normalised

MARY = "f1904cf1a9d73a55fa5de0ac823c4403ded71afd4c3248d00bdcd0866552bb79"
PHONE = "1ef970831d7963307784fa8688e8fce101a15685d62aa765fed23f3a2c576a4e"


def test_the_vectors_of_the_guide() -> None:
    assert cells(Identifiers(email="  Mary@Example.com ")) == {"EMAIL": MARY}
    assert cells(Identifiers(phone="+1 (555) 987-6543")) == {"PHONE": PHONE}


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        ({"phone": "00491511234567"}, {"PHONE": "491511234567"}),
        ({"phone": "+49 151 1234567"}, {"PHONE": "491511234567"}),
        ({"phone": "+44 (0)20 7946 0958"}, {"PHONE": "442079460958"}),
        ({"phone": "+39 (0)6 6982 0000"}, {"PHONE": "390669820000"}),
        ({"phone": "(0)20 7946 0958"}, {"PHONE": "2079460958"}),
        ({"phone": "unknown"}, {}),
        ({"phone": "000"}, {}),
        ({"email": "nobody"}, {}),
        ({"email": "a b@example.com"}, {}),
        ({"email": "\tJANE@Example.COM\n"}, {"EMAIL": "jane@example.com"}),
        ({"gender": "M"}, {"GEN": "m"}),
        ({"gender": "Female"}, {"GEN": "f"}),
        ({"gender": "x"}, {}),
        ({"birth_date": date(1987, 3, 4)}, {"DOBY": "1987", "DOBM": "03", "DOBD": "04"}),
        ({"first_name": "Anne-Marie", "last_name": "O'Neill"}, {"LN": "oneill", "FN": "annemarie"}),
        ({"first_name": "Valéry"}, {"FN": "valéry"}),
        ({"first_name": "Vale\u0301ry"}, {"FN": "valéry"}),
        ({"last_name": "정"}, {"LN": "정"}),
        ({"first_initial": "Jane"}, {"FI": "j"}),
        ({"city": "New York 1."}, {"CT": "newyork"}),
        ({"state": "CA", "country": "US"}, {"ST": "ca", "COUNTRY": "us"}),
        ({"state": "New York", "country": "us"}, {"ST": "ny", "COUNTRY": "us"}),
        ({"state": "Île-de-France", "country": "FR"}, {"ST": "îledefrance", "COUNTRY": "fr"}),
        ({"zip": "94025-1234"}, {"ZIP": "94025"}),
        ({"zip": "940251234", "country": "US"}, {"ZIP": "94025", "COUNTRY": "us"}),
        ({"zip": "SW1A 1AA", "country": "GB"}, {"ZIP": "sw1a1", "COUNTRY": "gb"}),
        ({"zip": "M1 1AE", "country": "GB"}, {"ZIP": "m11", "COUNTRY": "gb"}),
        ({"zip": "1016 XA"}, {"ZIP": "1016xa"}),
        ({"country": "Germany"}, {}),
        (
            {"advertising_id": "AEBE52E7-03EE-455A-B3C4-E57283966239"},
            {"MADID": "aebe52e7-03ee-455a-b3c4-e57283966239"},
        ),
        ({"advertising_id": "00000000-0000-0000-0000-000000000000"}, {}),
        ({"external_id": " CRM-10042 "}, {"EXTERN_ID": " CRM-10042 "}),
    ],
)
def test_each_key_is_normalised_as_the_guide_says(given_: dict[str, str], expected: dict[str, str]) -> None:
    assert normalised(Identifiers.model_validate(given_)) == expected


def test_all_but_two_keys_are_hashed() -> None:
    person = Identifiers(
        email="jane@example.com",
        external_id="crm-1",
        advertising_id="aebe52e7-03ee-455a-b3c4-e57283966239",
        country="US",
    )
    found, plain = cells(person), normalised(person)
    for key in found:
        digest = hashlib.sha256(plain[key].encode()).hexdigest()
        assert found[key] == (plain[key] if key in UNHASHED else digest)
    assert {"EXTERN_ID", "MADID"} <= UNHASHED


def test_a_hash_stays_and_an_md5_is_none() -> None:
    assert cells(Identifiers(email=MARY, phone=PHONE)) == {"EMAIL": MARY, "PHONE": PHONE}
    assert hashed(MARY) == MARY
    assert cells(Identifiers(email="5d41402abc4b2a76b9719d911017c592")) == {}
    assert cells(Identifiers(email=MARY.upper())) == {}


def test_an_empty_value_is_no_cell_instead_of_the_hash_of_nothing() -> None:
    nothing = {name: "" for name in Identifiers.model_fields if name != "birth_date"}
    assert cells(Identifiers.model_validate(nothing)) == {}


@pytest.mark.parametrize(
    ("keys", "somebody"),
    [
        ({"EMAIL"}, True),
        ({"PHONE"}, True),
        ({"EXTERN_ID"}, True),
        ({"MADID"}, True),
        ({"FN", "LN", "ZIP"}, True),
        ({"FI", "LN", "DOBY"}, True),
        ({"FN", "LN"}, False),
        ({"FN", "COUNTRY"}, False),
        (set(), False),
    ],
)
def test_a_row_must_be_able_to_be_somebody(keys: set[str], somebody: bool) -> None:
    assert identifies(dict.fromkeys(keys, "x")) is somebody


# -- Meta's own library ------------------------------------------------------------------------------------------------


@given(st.emails())
def test_the_official_library_hashes_addresses_alike(address: str) -> None:
    if cell := cells(Identifiers(email=address)).get("EMAIL"):
        official = CustomAudience.format_params([CustomAudience.Schema.MultiKeySchema.email], [[address]], is_raw=True)
        assert official["payload"]["data"] == [[cell]]


@given(st.from_regex(r"\+[1-9][0-9]{9,13}", fullmatch=True), st.sampled_from(["{}", "({})", " {} "]))
def test_the_official_library_hashes_numbers_alike(number: str, shape: str) -> None:
    cell = cells(Identifiers(phone=shape.format(number)))["PHONE"]
    official = CustomAudience.format_params([CustomAudience.Schema.MultiKeySchema.phone], [[number]], is_raw=True)
    assert official["payload"]["data"] == [[cell]]
    assert Normalize.normalize_field("ph", number) == cell


@pytest.mark.parametrize(
    ("field", "key", "value"),
    [
        ("first_name", "FN", "Jane"),
        ("last_name", "LN", "Doe"),
        ("city", "CT", "San Francisco"),
        ("state", "ST", "ca"),
        ("zip", "ZIP", "94025-1234"),
        ("country", "COUNTRY", "US"),
        ("gender", "GEN", "Female"),
        ("external_id", "EXTERN_ID", "crm-10042"),
    ],
)
def test_the_official_library_agrees_on_plain_values(field: str, key: str, value: str) -> None:
    # The library drops every letter that has an accent, against the guide, so that plain ones are compared.
    official = CustomAudience.format_params([key], [[value]], is_raw=True)["payload"]["data"]
    assert official == [[cells(Identifiers.model_validate({field: value}))[key]]]


def test_the_keys_are_those_of_the_official_library() -> None:
    schema = CustomAudience.Schema.MultiKeySchema
    official = {value for name, value in vars(schema).items() if not name.startswith("_")}
    assert set(KEYS) <= official
