"""What the connector declares, how accounts are authorised, and what its README promises."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import aiohttp
import pytest

from hub import Connector, OAuth2, Rate, StaticToken
from hub.connector import Effect
from hub.errors import AuthExpired
from hub.testing.contract.stage import hub_of
from hub_hubspot import hub_register_connectors, hubspot
from hub_hubspot.client import WITH_HISTORY_AT_ONCE, whoami
from hub_hubspot.sandbox import HubspotSandbox

README = (Path(__file__).parents[1] / "README.md").read_text()
FIELDS = [*hubspot.fields, *(field for kind in hubspot.auth for field in kind.fields)]


def test_the_plugin_registers_its_connector_with_all_that_it_declares() -> None:
    found: list[Connector] = []

    def register(connector: Connector) -> None:
        found.append(connector)

    hub_register_connectors(register)
    assert found == [hubspot]
    assert set(hubspot.polls) | set(hubspot.histories) <= set(hubspot.triggers)


def test_every_field_that_holds_a_secret_is_marked() -> None:
    assert {field.name for field in FIELDS if field.secret} == {
        "access_token",
        "client_secret",
        "client_secret_previous",
        "v1_client_secret",
    }


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [
        ("portal_id", ["62515"], ["", "app", "62515 "]),
        ("api_version", ["v3", "2026-03", "2026-09", "2027-03"], ["v4", "2025-09", "2026-04", "2026-03-beta"]),
        ("watched_lists", ["31", "31,32", "31, 32"], ["Newsletter", "31,"]),
        ("watched_forms", ["f0000000-0000-4000-8000-000000000000"], ["Demo"]),
        ("contact_properties", ["city", "city, company_size"], ["City", "city;company"]),
        (
            "missed_changes",
            ["deal.dealstage", "ticket.hs_pipeline_stage,contact.city", "contact.city , deal.dealstage"],
            ["dealstage", "deal.amount", "company.name", "contact.City", "contact.city,", "contact."],
        ),
    ],
)
def test_settings_are_checked(field: str, good: list[str], bad: list[str]) -> None:
    [pattern] = [one.pattern for one in FIELDS if one.name == field]
    assert pattern
    assert all(re.fullmatch(pattern, one) for one in good)
    assert not any(re.fullmatch(pattern, one) for one in bad)


def test_effect_classes_are_what_hubspot_allows() -> None:
    classes = {name: action.effect for name, action in hubspot.actions.items()}
    keyed = {name for name, effect in classes.items() if effect is Effect.KEYED}
    looked_up = {name for name, effect in classes.items() if effect is Effect.RECONCILABLE}
    # HubSpot has keys of its own for these two only (Single-send and Custom events APIs, read 2026-11-22).
    assert keyed == {"send_email", "send_event"}
    assert looked_up == {"create_note", "create_task", "create_ticket", "create_deal"}
    assert {name for name, action in hubspot.actions.items() if action.lookup_} == looked_up
    assert Effect.AT_MOST_ONCE not in classes.values()


def test_batches_are_as_large_as_hubspot_takes(facts: dict[str, Any]) -> None:
    most = facts["limits"]["objects_create_read_update_upsert_archive"]
    sizes = {name: action.batch.size for name, action in hubspot.actions.items() if action.batch}
    assert sizes == dict.fromkeys(("upsert_contact", "add_to_list", "remove_from_list"), most)
    assert facts["limits"]["read_with_property_history"] == WITH_HISTORY_AT_ONCE


def test_searches_stay_below_a_limit_of_their_own(facts: dict[str, Any]) -> None:
    [rate] = [budget for budget in hubspot.budgets if isinstance(budget, Rate) and budget.apart]
    # Never more than five in any second; HubSpot counts them apart from all other calls.
    assert (rate.name, rate.limit + rate.per_s) == ("searches", 5)
    assert hubspot.actions["search_contact"].draws == {"searches": 1}
    drawing = {name for name, poll in hubspot.polls.items() if poll.draws}
    assert drawing == {
        "contact_created",
        "contact_changed",
        "email_unsubscribed",
        "ticket_created",
        "ticket_changed",
        "deal_stage_changed",
    }


# -- in the browser ----------------------------------------------------------------------------------------------------


def test_an_account_is_authorised_by_a_token_or_in_the_browser() -> None:
    assert [type(kind) for kind in hubspot.auth] == [StaticToken, OAuth2]
    [browser] = [kind for kind in hubspot.auth if isinstance(kind, OAuth2)]
    assert browser.token_url({"api_version": "2026-09"}) == "https://api.hubapi.com/oauth/2026-09/token"
    assert browser.revoke_url
    assert browser.revoke_url({"api_version": "v3"}) == "https://api.hubapi.com/oauth/2026-03/token/revoke"
    needed = {scope for one in (*hubspot.triggers.values(), *hubspot.actions.values()) for scope in one.scopes}
    assert needed <= set(browser.scopes)


async def test_what_somebody_did_not_grant_is_known_from_the_tokens_answer() -> None:
    async with hub_of(hubspot, {"portal_id": "62515"}) as (hub, sandbox):
        assert isinstance(sandbox, HubspotSandbox)
        sandbox.oauth.refuses = {"forms", "tickets"}
        await hub.connections.add_app("hubspot", "ours", {"client_id": "c-1", "client_secret": "app-secret"})
        begun = await hub.authorising.begin("hubspot", "crm", {}, app="ours", auth="oauth2", sandbox=True)
        page = await hub.authorising.open(begun.url.rpartition("/")[2], "a browser")
        async with aiohttp.ClientSession() as person, person.get(f"{page}&as=4711", allow_redirects=False) as answer:
            back = parse_qsl(urlsplit(answer.headers["Location"]).query)
        connected = (await hub.authorising.finish("hubspot", back, "a browser")).connection
    [browser] = [kind for kind in hubspot.auth if isinstance(kind, OAuth2)]
    assert connected.scopes == set(browser.scopes) - {"forms", "tickets"}


async def test_an_account_whose_plan_has_less_is_connected_with_what_it_has() -> None:
    async with hub_of(hubspot, {"portal_id": "62515"}) as (hub, sandbox):
        assert isinstance(sandbox, HubspotSandbox)
        sandbox.oauth.lacks = {"marketing-email", "transactional-email", "analytics.behavioral_events.send", "content"}
        await hub.connections.add_app("hubspot", "ours", {"client_id": "c-1", "client_secret": "app-secret"})
        begun = await hub.authorising.begin("hubspot", "crm", {}, app="ours", auth="oauth2", sandbox=True)
        page = await hub.authorising.open(begun.url.rpartition("/")[2], "a browser")
        asked = dict(parse_qsl(urlsplit(page).query))
        async with aiohttp.ClientSession() as person, person.get(f"{page}&as=4711", allow_redirects=False) as answer:
            back = parse_qsl(urlsplit(answer.headers["Location"]).query)
        finished = await hub.authorising.finish("hubspot", back, "a browser")
    [browser] = [kind for kind in hubspot.auth if isinstance(kind, OAuth2)]
    # What nothing works without is asked for outright, the rest as far as the account has it; nothing is asked for twice.
    needed, optional = asked["scope"].split(" "), asked["optional_scope"].split(" ")
    assert needed == ["oauth", "crm.objects.contacts.read", "crm.objects.contacts.write"]
    assert sorted(needed + optional) == sorted(browser.scopes)
    assert finished.connection.scopes == set(browser.scopes) - sandbox.oauth.lacks
    assert set(finished.missing) == sandbox.oauth.lacks


async def test_what_a_private_apps_token_may_do_is_known_once_it_is_tested() -> None:
    async with hub_of(hubspot, {"portal_id": "62515"}) as (hub, sandbox):
        assert isinstance(sandbox, HubspotSandbox)
        assert (await hub.connections.by_name("hubspot")).scopes is None
        sandbox.portal("62515").scopes = ["crm.objects.contacts.read", "tickets"]
        await hub.connections.test("hubspot")
        assert (await hub.connections.by_name("hubspot")).scopes == {"crm.objects.contacts.read", "tickets"}
        # a service key, of which HubSpot tells nothing: the connection works all the same, and nothing is known
        sandbox.portal("62515").scopes = None
        await hub.connections.test("hubspot")
        assert (await hub.connections.by_name("hubspot")).scopes is None


async def test_whoever_allows_it_connects_their_account_and_its_token_is_renewed() -> None:
    async with hub_of(hubspot, {"portal_id": "62515"}) as (hub, sandbox):
        assert isinstance(sandbox, HubspotSandbox)
        await hub.connections.add_app("hubspot", "ours", {"client_id": "c-1", "client_secret": "app-secret"})
        begun = await hub.authorising.begin("hubspot", "crm", {}, app="ours", auth="oauth2", sandbox=True)
        page = await hub.authorising.open(begun.url.rpartition("/")[2], "a browser")
        async with aiohttp.ClientSession() as person, person.get(f"{page}&as=4711", allow_redirects=False) as answer:
            back = parse_qsl(urlsplit(answer.headers["Location"]).query)
        connected = (await hub.authorising.finish("hubspot", back, "a browser")).connection
        assert (connected.account, connected.settings) == ("4711", {"api_version": "2026-03", "bounces_block": "yes"})

        sandbox.oauth.expire()
        with pytest.raises(AuthExpired):
            await whoami(await hub.connections.context(connected))
        assert await hub.connections.tokens.renew_refused(connected)
        assert (await whoami(await hub.connections.context(await hub.connections.by_name("crm")))).id == "4711"


# -- the README --------------------------------------------------------------------------------------------------------


def test_the_readme_names_every_trigger_action_and_setting() -> None:
    for name in (*hubspot.triggers, *hubspot.actions):
        assert f"`hubspot.{name}`" in README, name
    for field in FIELDS:
        assert f"`{field.name}`" in README, field.name


def test_the_project_file_of_the_readme_subscribes_to_what_the_triggers_read(facts: dict[str, Any]) -> None:
    [block] = re.findall(r"```json\n(.*?)```", README, re.DOTALL)
    subscribed = json.loads(block)["config"]["subscriptions"]["legacyCrmObjects"]
    types = {one["subscriptionType"] for one in subscribed}
    assert types <= set(facts["webhook_event_types"])
    assert types == {
        "contact.creation",
        "contact.propertyChange",
        "contact.deletion",
        "contact.privacyDeletion",
        "deal.propertyChange",
        "ticket.creation",
        "ticket.propertyChange",
    }
    assert all(
        bool(one.get("propertyName")) == one["subscriptionType"].endswith("propertyChange") for one in subscribed
    )


def test_the_readme_checklist_names_tests_that_there_are() -> None:
    checklist = README.partition("## Checklist")[2]
    named = set(re.findall(r"`(test_\w+)`", checklist))
    there = {
        name
        for file in Path(__file__).parent.glob("test_*.py")
        for name in re.findall(r"def (test_\w+)", file.read_text())
    }
    assert named
    assert named <= there, named - there
