"""What belongs to people, or is secret, is replaced by something made-up of the same shape."""

from __future__ import annotations

import json
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.events import e164
from hub.masking import Masks


@pytest.mark.parametrize(
    ("name", "value", "shape"),
    [
        ("email", "Jane.Doe@shop.example", r"[A-Z][a-z]{3}\.[A-Z][a-z]{2}@example\.com"),
        ("phone", "+14155550100", r"\+1[2-9]\d{9}"),
        ("phone", "(415) 555-0100", r"\([2-9]\d\d\) \d{3}-\d{4}"),
        ("From", "whatsapp:+4915112345678", r"whatsapp:\+49[2-9]\d{10}"),
        ("first_name", "Jane", r"[A-Z][a-z]{3}"),
        ("lastName", "O'Hara", r"[A-Z]'[A-Z][a-z]{3}"),
        ("address1", "1 Sample Street", r"[1-9] [A-Z][a-z]{5} [A-Z][a-z]{5}"),
        ("ToCity", "Berlin", r"[A-Z][a-z]{5}"),
        ("zip", "94105", r"[1-9]\d{4}"),
        ("checkout_token", "84ad78572dae52a8cbea7d55371afe89", r"[0-9a-f]{32}"),
        ("MessageSid", "SM00000000000000000000000000000b02", r"SM[0-9a-f]{32}"),
        ("x-vendor-hmac-sha256", "PrC2rAzfOGheTDsK7xQ+qg/wJRsxRH0H9oTkYBwlR4w=", r"[A-Za-z0-9+/]{43}="),
        ("anything", "shpat_1234567890abcdef1234567890", r"shpat_[0-9a-f]{26}|shpat_[0-9a-z]{26}"),
        ("admin_gid", "gid://shopify/Customer/5747017285820", r"gid://shopify/Customer/[1-9]\d{12}"),
        ("browser_ip", "198.51.100.7", r"203\.0\.113\.\d{1,3}"),
        ("client", "2a00:1450:4001::1", r"2001:db8::[0-9a-f]{1,2}"),
        ("birthday", "1961-07-04", r"1990-01-\d\d"),
        ("note", "Ring twice, I am deaf", r"[A-Z][a-z]{3} [a-z]{5}, [A-Z] [a-z]{2} [a-z]{4}"),
        ("url", "https://shop.example/1017/authenticate?key=77af1", r"https://shop\.example/[1-9]\d{3}/authenticate\?key=.+"),
    ],
)  # fmt: skip
def test_a_value_is_replaced_by_one_of_its_shape(name: str, value: str, shape: str) -> None:
    masked = Masks().json({name: value})[name]
    assert masked != value
    assert re.fullmatch(shape, masked), masked


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("financial_status", "paid"),
        ("total_price", "67.49"),
        ("created_at", "2026-11-01T21:31:40-05:00"),
        ("currency", "USD"),
        ("quantity", 2),
        ("verified_email", True),
        ("phone", None),
        ("title", "Wool scarf"),
        ("product_name", "Wool scarf"),
        ("content-type", "application/x-www-form-urlencoded; charset=UTF-8"),
        ("country_code", "US"),
    ],
)
def test_what_is_nobody_s_stays(name: str, value: object) -> None:
    assert Masks().json({name: value}) == {name: value}


def test_a_number_that_names_somebody_is_another_number_of_the_same_length() -> None:
    masked = Masks().json({"id": 5778367414385, "line_items": [{"id": 1500123}]})
    assert len(str(masked["id"])) == 13
    assert masked["id"] != 5778367414385
    assert len(str(masked["line_items"][0]["id"])) == 7


def test_the_same_value_gets_the_same_mask_so_that_relations_stay() -> None:
    masks = Masks()
    first = masks.json({"email": "jane@shop.example", "customer": {"email": "jane@shop.example", "id": 5747017}})
    again = masks.json({"customer_id": 5747017, "contact_email": "JANE@shop.example"})
    assert first["email"] == first["customer"]["email"]
    assert again["customer_id"] == first["customer"]["id"]
    assert again["contact_email"].lower() == first["email"]


def test_another_capture_masks_otherwise() -> None:
    assert Masks().json({"email": "jane.doe.1961@shop.example"}) != Masks().json(
        {"email": "jane.doe.1961@shop.example"}
    )


def test_who_is_known_from_one_field_is_found_in_the_others() -> None:
    given = {"label": "for Jane-Marie, jane@shop.example or +14155550100", "first_name": "Jane-Marie"}
    masked = json.dumps(Masks().json(given))
    for personal in ("Jane-Marie", "jane@shop.example", "+14155550100"):
        assert personal not in masked


def test_it_says_what_was_masked_and_where() -> None:
    masks = Masks()
    masks.json({"email": "a@b.example", "items": [{"name": "Jane"}, {"name": "Joe"}], "status": "paid"})
    assert masks.found == {"e-mail": ["email"], "name": ["items[].name"]}


@settings(deadline=None)
@given(st.from_regex(r"\+(1[2-9]\d{9}|49[2-9]\d{9}|44[2-9]\d{9})", fullmatch=True))
def test_a_masked_number_is_a_number_of_the_same_country(number: str) -> None:
    masked = Masks(b"key").json({"phone": number})["phone"]
    assert e164(masked) == masked
    assert masked[:2] == number[:2]


@settings(deadline=None)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["id", "phone", "zip", "name"]), inner)))  # fmt: skip
def test_any_json_keeps_its_structure(value: object) -> None:
    def shape(one: object) -> object:
        if isinstance(one, dict):
            return {name: shape(inner) for name, inner in one.items()}
        return [shape(inner) for inner in one] if isinstance(one, list) else type(one)

    assert shape(Masks(b"key").json(value)) == shape(value)


def test_a_picture_inside_a_text_takes_no_longer_than_its_length() -> None:
    picture = "data:image/png;base64," + "iVBORw0KGgo" * 10_000
    began = time.process_time()
    masked = Masks().json({"html": f"<img src='{picture}'> from jane@shop.example", "n": 1})["html"]
    assert time.process_time() - began < 2
    assert "jane@shop.example" not in masked


def test_many_people_in_many_texts_take_no_longer_than_the_texts() -> None:
    people = [{"first_name": f"Jane{n}", "label": f"parcel {n} of Jane{n}"} for n in range(8_000)]
    began = time.process_time()
    masked = Masks().json({"people": people})["people"]
    assert time.process_time() - began < 5
    assert not any(f"Jane{n}" in one["label"] for n, one in enumerate(masked))
    assert all(one["label"].endswith(one["first_name"]) for one in masked)


def test_of_two_names_at_one_place_the_longer_one_is_meant() -> None:
    given = [
        {"first_name": "Jane", "name": "Jane Doe-Roe", "label": "Jane Doe-Roe, or Jane; Janet and x-Jane stay near"}
    ]
    [masked] = Masks().json(given)
    assert (
        masked["label"] == f"{masked['name']}, or {masked['first_name']}; Janet and x-{masked['first_name']} stay near"
    )


def test_many_fields_are_told_in_a_time_that_grows_with_their_number() -> None:
    masks, began = Masks(), time.process_time()
    masks.json({f"n{n}": {"email": f"a{n}@shop.example"} for n in range(15_000)})
    assert time.process_time() - began < 6
    assert len(masks.found["e-mail"]) == 15_000
