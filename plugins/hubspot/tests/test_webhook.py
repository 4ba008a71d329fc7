"""Which calls are HubSpot's: all three versions of its signature, against its own client and the vectors."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hubspot.utils.signature import Signature
from hypothesis import given
from hypothesis import strategies as st

from hub import InboundRequest, SignatureError, StaleError
from hub_hubspot.sandbox import telling
from hub_hubspot.webhook import (
    SIGNATURE,
    SIGNATURE_V3,
    TIMESTAMP,
    V1_SECRET,
    VERSION,
    HubspotWebhook,
    sign_v1,
    sign_v2,
    sign_v3,
)

VECTORS = json.loads((Path(__file__).parent / "facts" / "signature_vectors.json").read_text())["vectors"]
SECRET = "made-up-client-secret"
URL = "https://hub.example.test/webhooks/hubspot/k3y"
BODY = '[{"eventId": 1, "propertyValue": "Zoë"}]'.encode()
NOW = 1_795_170_000_000
webhook = HubspotWebhook()


def call(headers: dict[str, str], *, body: bytes = BODY, url: str = URL, method: str = "POST", at: int = NOW) -> Any:
    return InboundRequest(method, url, {name.lower(): value for name, value in headers.items()}, body, at)


def v3(*, secret: str = SECRET, at: int = NOW, body: bytes = BODY) -> dict[str, str]:
    return {SIGNATURE_V3: sign_v3(secret, "POST", URL, body, str(at)), TIMESTAMP: str(at)}


def of_vector(vector: dict[str, Any]) -> tuple[InboundRequest, dict[str, str]]:
    """The call of a vector, and the secret in the field that its version counts by."""
    version, given = vector["version"], vector.get("given") or vector["expected"]
    headers = {vector["header"]: given}
    headers |= {TIMESTAMP: vector["timestamp"]} if version == "v3" else {VERSION: version}
    at = int(vector.get("timestamp", NOW))
    made = call(headers, body=vector["body"].encode(), url=vector.get("url", URL), method=vector["method"], at=at)
    return made, {V1_SECRET if version == "v1" else "client_secret": vector["secret"]}


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: f"{v['version']}-{v.get('note', v['source'])}")
def test_every_vector_is_taken_or_refused_as_it_says(vector: dict[str, Any]) -> None:
    request, secrets = of_vector(vector)
    if vector.get("valid", True):
        webhook.verify(request, secrets)
    else:
        with pytest.raises(SignatureError):
            webhook.verify(request, secrets)


def test_the_vectors_are_of_all_versions() -> None:
    assert {vector["version"] for vector in VECTORS} == {"v1", "v2", "v3"}


@given(body=st.text(), url=st.text(alphabet="abc/:.?=&-", min_size=1), at=st.integers(0, 2**45))
def test_signatures_are_those_of_hubspots_own_client(body: str, url: str, at: int) -> None:
    own = Signature.get_signature
    assert sign_v1(SECRET, body.encode()) == own(SECRET, body, "v1")
    assert sign_v2(SECRET, "POST", url, body.encode()) == own(SECRET, body, "v2", url, "POST")
    assert sign_v3(SECRET, "POST", url, body.encode(), str(at)) == own(SECRET, body, "v3", url, "POST", str(at))


@pytest.mark.parametrize("version", ["v1", "v2", "v3"])
def test_what_the_sandbox_signs_is_good_to_hubspots_own_client(version: str) -> None:
    now_ms = int(time.time() * 1000)
    sent = telling.Delivery(URL, BODY, (version,), "62515", True)
    headers = telling.headers(sent, SECRET, now_ms)
    signature = headers[SIGNATURE_V3 if version == "v3" else SIGNATURE]
    assert Signature.is_valid(signature, SECRET, BODY.decode(), URL, "POST", version, headers.get(TIMESTAMP))


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_a_call_with_version_3_is_judged_by_it_alone() -> None:
    older = {SIGNATURE: sign_v1(SECRET, BODY), VERSION: "v1"}
    secrets = {"client_secret": SECRET, V1_SECRET: SECRET}
    webhook.verify(call(v3() | older), secrets)
    with pytest.raises(SignatureError):
        webhook.verify(call(v3(secret="another") | older), secrets)


def test_version_1_counts_only_where_somebody_said_so() -> None:
    headers = {SIGNATURE: sign_v1(SECRET, BODY), VERSION: "v1"}
    webhook.verify(call(headers), {V1_SECRET: SECRET})
    with pytest.raises(SignatureError, match="v1_client_secret"):
        webhook.verify(call(headers), {"client_secret": SECRET})


def test_the_secret_for_version_1_makes_no_other_version_good() -> None:
    with pytest.raises(SignatureError):
        webhook.verify(call(v3()), {V1_SECRET: SECRET})
    headers = {SIGNATURE: sign_v2(SECRET, "POST", URL, BODY), VERSION: "v2"}
    with pytest.raises(SignatureError):
        webhook.verify(call(headers), {V1_SECRET: SECRET})


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {TIMESTAMP: str(NOW)},
        {SIGNATURE: sign_v1(SECRET, BODY)},
        {SIGNATURE: sign_v1(SECRET, BODY), VERSION: "v9"},
        {SIGNATURE: sign_v2(SECRET, "POST", URL, BODY), VERSION: "v1"},
        {SIGNATURE: sign_v1(SECRET, BODY), VERSION: "v2"},
        {SIGNATURE: "", VERSION: "v2"},
        {SIGNATURE_V3: "", TIMESTAMP: str(NOW)},
        {SIGNATURE_V3: v3()[SIGNATURE_V3]},
        {SIGNATURE_V3: "schrödinger", TIMESTAMP: str(NOW)},
    ],
)
def test_without_a_signature_of_a_version_that_is_named_a_call_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(SignatureError):
        webhook.verify(call(headers), {"client_secret": SECRET, V1_SECRET: SECRET})


@pytest.mark.parametrize("changed", [{"body": BODY + b" "}, {"url": URL + "?a=1"}, {"method": "PUT"}])
def test_version_3_covers_body_address_and_method(changed: dict[str, Any]) -> None:
    with pytest.raises(SignatureError):
        webhook.verify(call(v3(), **changed), {"client_secret": SECRET})


@pytest.mark.parametrize("age_ms", [300_001, -300_001, 10**9])
def test_a_call_that_is_too_old_or_from_the_future_is_stale(age_ms: int) -> None:
    with pytest.raises(StaleError):
        webhook.verify(call(v3(at=NOW - age_ms)), {"client_secret": SECRET})


@pytest.mark.parametrize("age_ms", [0, 300_000, -300_000])
def test_a_call_within_five_minutes_is_taken(age_ms: int) -> None:
    webhook.verify(call(v3(at=NOW - age_ms)), {"client_secret": SECRET})


@pytest.mark.parametrize("timestamp", ["", "1795170000000.5", "-1", "now", "１７９５１７００００００0"])
def test_a_signed_time_that_is_none_is_stale(timestamp: str) -> None:
    headers = {SIGNATURE_V3: sign_v3(SECRET, "POST", URL, BODY, timestamp), TIMESTAMP: timestamp}
    with pytest.raises(StaleError):
        webhook.verify(call(headers), {"client_secret": SECRET})


def test_during_a_rotation_both_secrets_are_taken() -> None:
    secrets = {"client_secret": "new", "client_secret_previous": SECRET}
    webhook.verify(call(v3()), secrets)
    webhook.verify(call(v3(secret="new")), secrets)


def test_a_plus_that_a_proxy_turned_into_a_blank_is_understood() -> None:
    at = next(at for at in range(NOW, NOW + 1000) if "+" in v3(at=at)[SIGNATURE_V3])
    headers = v3(at=at)
    headers[SIGNATURE_V3] = headers[SIGNATURE_V3].replace("+", " ")
    webhook.verify(call(headers, at=at), {"client_secret": SECRET})


def test_a_list_is_events_and_an_object_is_of_a_workflow() -> None:
    assert webhook.topic(call({}, body=b' [{"a": 1}]')) == "events"
    assert webhook.topic(call({}, body=b'{"vid": 1}')) == "workflow"
