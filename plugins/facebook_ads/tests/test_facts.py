"""That the comparison with Meta's specifications finds what is wrong, and that the facts say where they are from."""

from __future__ import annotations

from typing import Any

import pytest

from hub_facebook_ads.triggers.leads import _LEAD_FIELDS


@pytest.mark.parametrize(
    ("asked", "wrong"),
    [
        (("POST", "audience", "users", {"payload": {}, "session": {}}), []),
        (("POST", "audience", "users", {"payload": "[]"}), ["POST audience/users: payload must be an object"]),
        (("POST", "audience", "members", {}), ["POST audience/members is no edge"]),
        (("POST", "pixel", "events", {"event": []}), 2),
        (("GET", "lead", None, {"fields": "id,emails"}), ["Lead has no field emails"]),
        (("POST", "page", "subscribed_apps", {"subscribed_fields": "leadgen,leeds"}), 1),
        (("POST", "ad_account", "customaudiences", {"subtype": "CUSTOMER"}), 1),
        (("POST", "campaign", None, {"status": "PAUSED", "budget_of_a_day": "1"}), 1),
        (("GET", "form", "leads", {"filtering": [], "sorting": "x"}), ["GET form/leads has no parameter sorting"]),
    ],
)
def test_what_is_not_in_the_specifications_is_found(facts: Any, asked: Any, wrong: Any) -> None:
    found = facts.wrong(asked)
    assert found == wrong if isinstance(wrong, list) else len(found) == wrong


def test_the_facts_say_where_they_are_from(facts: Any) -> None:
    assert set(facts.known["source"]) == {"from", "commit", "date", "licence", "by"}


def test_a_lead_is_asked_for_by_fields_that_it_has(facts: Any) -> None:
    assert set(_LEAD_FIELDS.split(",")) <= set(facts.known["fields"]["Lead"])
    assert {"name", "values"} == set(facts.known["fields"]["UserLeadGenFieldData"])
    assert {"checkbox_key", "is_checked"} == set(facts.known["fields"]["UserLeadGenDisclaimerResponse"])
