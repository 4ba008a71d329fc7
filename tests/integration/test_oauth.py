"""Accounts that are authorised in the browser: the way there and back, what is refused on it, tokens that rotate and end."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import aiohttp
import pytest
from typer.testing import CliRunner

from hub import Field
from hub.api.app import make_app
from hub.api.serving import answering
from hub.apikeys import create_api_key
from hub.cli import app
from hub.cli.checkup_store import in_database
from hub.clock import Clock
from hub.connections.authorising import Authorising, Begun
from hub.connector import Account
from hub.errors import AuthExpired, ConfigError, SignatureError
from hub.plugins import load_plugins
from hub.process import open_hub
from hub.settings import load_settings
from hub.store import connections
from hub.testing.sandbox import SandboxServer
from hub.vault import generate_key
from tests import club
from tests.club import ISSUER, ClubSandbox
from tests.conftest import free_port

SECRET = "app-secret-42"


@dataclass
class Place:
    """A hub behind real HTTP, the vendor's stand-in, and a program with an API key."""

    hub: Any
    settings: Any
    vendor: ClubSandbox
    session: aiohttp.ClientSession
    url: str
    key: str

    async def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        async with self.session.request(
            method, self.url + path, json=body, headers={"Authorization": f"Bearer {self.key}"}
        ) as answer:
            return answer.status, await answer.json()

    async def begin(self, name: str = "club", **more: Any) -> dict[str, Any]:
        new = {"connector": "club", "name": name, "app": "ours", "sandbox": True, **more}
        status, begun = await self.call("POST", "/api/v1/authorisations", new)
        assert status == 201, begun
        return dict(begun)

    async def state(self, begun: dict[str, Any]) -> tuple[str, str]:
        _, found = await self.call("GET", f"/api/v1/authorisations/{begun['id']}")
        return found["state"], found["detail"]

    async def connected(self, name: str = "club", account: str = "main", **more: Any) -> None:
        async with browser() as person:
            status, said = await person.through(await self.begin(name, **more), account)
            assert status == 200, said


class Browser:
    """Somebody at the screen; cookies are kept, redirects are followed one by one."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.session = session

    async def get(self, url: str) -> tuple[int, str, str]:
        async with self.session.get(url, allow_redirects=False) as answer:
            return answer.status, answer.headers.get("Location", ""), await answer.text()

    async def to_vendor(self, begun: dict[str, Any]) -> str:
        status, address, said = await self.get(begun["url"])
        assert status == 303, said
        return address

    async def to_answer(self, begun: dict[str, Any], account: str = "main", **more: str) -> str:
        """The hub's address that the vendor sends the browser back to."""
        chosen = more or {"as": account}
        status, address, said = await self.get(f"{await self.to_vendor(begun)}&{urlencode(chosen)}")
        assert status == 302, said
        return address

    async def through(self, begun: dict[str, Any], account: str = "main", **more: str) -> tuple[int, str]:
        status, _, said = await self.get(await self.to_answer(begun, account, **more))
        return status, said


@asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    # Addresses of machines have cookies, too.
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        yield Browser(session)


@pytest.fixture
async def place(database_url: str, tmp_path: Any) -> AsyncIterator[Place]:
    import tests.club as club

    clock = Clock()
    vendor = ClubSandbox(clock)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    async with SandboxServer({"club": vendor}) as server, aiohttp.ClientSession() as session:
        settings = load_settings(
            database_url=database_url,
            keys=[generate_key()],
            sandbox_url=server.url,
            public_url=url,
            data_dir=tmp_path,
            development=True,
        )
        async with open_hub(settings, plugins=load_plugins(extra=[club]), clock=clock) as hub:
            with socket.create_server(("127.0.0.1", port)) as listener:
                async with answering(make_app(hub), listener):
                    key = await create_api_key(hub.store, "test", "write", 0)
                    it = Place(hub, settings, vendor, session, url, key)
                    ours = {
                        "connector": "club",
                        "name": "ours",
                        "fields": {"client_id": "c-1", "client_secret": SECRET},
                    }
                    assert (await it.call("POST", "/api/v1/apps", ours))[0] == 201
                    yield it


async def test_an_account_is_connected_through_the_browser(place: Place) -> None:
    begun = await place.begin()
    assert await place.state(begun) == ("waiting", "not opened yet")
    async with browser() as person:
        # when somebody opens the address, the vendor is asked for no more than was said, with PKCE
        asked = parse_qs(urlsplit(await person.to_vendor(begun)).query)
        assert asked["scope"] == ["members.read members.greet"]
        assert asked["code_challenge_method"] == ["S256"]
        assert asked["redirect_uri"] == [f"{place.url}/oauth/callback/club"]
        status, said = await person.through(begun)
    # then the account is connected, and works
    assert (status, "A club (main) is connected as club" in said) == (200, True)
    assert await place.state(begun) == ("connected", "club")
    connection = await place.hub.connections.by_name("club")
    assert (connection.account, connection.app_id is not None) == ("main", True)
    assert connection.scopes == {"members.read", "members.greet"}
    assert (await place.hub.connections.test("club")).id == "main"


async def test_no_secret_of_it_is_ever_shown(place: Place) -> None:
    begun = await place.begin()
    async with browser() as person:
        _, said = await person.through(begun)
    token = (await place.hub.connections.fields(await place.hub.connections.by_name("club")))["access_token"]
    shown = [said]
    for path in ("/api/v1/connections", "/api/v1/apps", f"/api/v1/authorisations/{begun['id']}"):
        shown.append(str(await place.call("GET", path)))
    async with place.hub.store.read() as c:
        for table in ("app", "connection", "authorisation", "meta"):
            shown.append(str([dict(row) for row in await c.all(f"select * from {table}")]))
    for secret in (token, SECRET, begun["url"].rpartition("/")[2]):
        assert not [text for text in shown if secret in text]


@pytest.mark.parametrize("what", ["another browser", "no cookie at all"])
async def test_an_answer_that_another_browser_brings_is_refused_and_spoils_nothing(place: Place, what: str) -> None:
    begun = await place.begin()
    async with browser() as person, browser() as thief:
        stolen = await person.to_answer(begun)
        if what == "another browser":
            await thief.to_vendor(await place.begin("thief"))
        status, _, said = await thief.get(stolen)
        assert (status, "begun in this browser" in said) == (400, True)
        # then the one who began it finishes it
        assert (await person.get(stolen))[0] == 200
    assert {c.name for c in await place.hub.connections.all()} == {"club"}


async def test_an_answer_counts_once(place: Place) -> None:
    begun = await place.begin()
    async with browser() as person:
        answer = await person.to_answer(begun)
        statuses = [status for status, _, _ in await asyncio.gather(*[person.get(answer) for _ in range(10)])]
        assert sorted(statuses) == [200] + [400] * 9
        status, _, said = await person.get(answer)
    assert (status, "used already" in said) == (400, True)
    assert place.vendor.oauth.asked == 1


async def test_an_address_that_begins_it_works_in_one_browser_for_ten_minutes(place: Place) -> None:
    begun, late = await place.begin(), await place.begin("late")
    async with browser() as person, browser() as other:
        await person.to_vendor(begun)
        # the same browser may open it again; the answer to its first request is worth nothing then
        first = await person.to_answer(begun)
        second = await person.to_answer(begun)
        assert (await person.get(first))[0] == 400
        assert (await other.get(begun["url"]))[0] == 400
        assert (await person.get(second))[0] == 200
        assert (await person.get(begun["url"]))[0] == 400
        assert (await person.get(f"{place.url}/oauth/begin/guessed"))[0] == 400
        # and neither may take too long
        answer = await person.to_answer(late)
        place.hub.clock.offset_ms += 600_001
        status, _, said = await person.get(answer)
        assert (status, "longer than ten minutes" in said) == (400, True)
        assert (await person.get(late["url"]))[0] == 400
    assert (await place.state(late))[0] == "expired"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"state": None}, "begun in this browser"),
        ({"state": "forged"}, "begun in this browser"),
        ({"iss": None}, "not from the vendor that was asked"),
        ({"iss": "https://evil.example"}, "not from the vendor that was asked"),
        ({"code": None}, "without a code"),
        ({"code": "stolen"}, "400 invalid_grant"),
    ],
)
async def test_an_answer_that_was_tampered_with_connects_nothing(
    place: Place, change: dict[str, str | None], told: str
) -> None:
    begun = await place.begin()
    async with browser() as person:
        parts = urlsplit(await person.to_answer(begun))
        given = {k: v for k, v in {**dict(parse_qsl(parts.query)), **change}.items() if v is not None}
        status, _, said = await person.get(f"{place.url}{parts.path}?{urlencode(given)}")
    assert (status, told in said) == (400, True), said
    assert await place.hub.connections.all() == []


async def test_an_answer_that_says_something_twice_or_for_another_vendor_is_refused(place: Place) -> None:
    begun = await place.begin()
    async with browser() as person:
        answer = await person.to_answer(begun)
        state = dict(parse_qsl(urlsplit(answer).query))["state"]
        assert (await person.get(f"{answer}&state={state}"))[0] == 400
        assert (await person.get(answer.replace("/callback/club", "/callback/shopify")))[0] == 400
        assert (await person.get(answer))[0] == 200


@pytest.mark.parametrize(
    "forged",
    [
        {"Host": "evil.example"},
        {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https", "X-Forwarded-Port": "444"},
        {"Forwarded": "host=evil.example;proto=https"},
        {"X-Original-Host": "evil.example", "X-Forwarded-Server": "evil.example", "X-Host": "evil.example"},
    ],
    ids=lambda forged: next(iter(forged)),
)
async def test_the_address_to_come_back_to_heeds_no_header(place: Place, forged: dict[str, str]) -> None:
    # when everything is asked for with forged headers: the beginning, the address for the browser, and the answer
    back = f"{place.url}/oauth/callback/club"
    new = {"connector": "club", "name": "club", "app": "ours", "sandbox": True}
    headers = {"Authorization": f"Bearer {place.key}", **forged}
    async with place.session.post(f"{place.url}/api/v1/authorisations", json=new, headers=headers) as answer:
        assert answer.status == 201
        begun = await answer.json()
    async with place.session.get(f"{place.url}/api/v1/apps", headers=headers) as answer:
        [ours] = await answer.json()
    async with browser() as person:
        async with person.session.get(begun["url"], headers=forged, allow_redirects=False) as answer:
            to_vendor = answer.headers["Location"]
        _, to_hub, _ = await person.get(f"{to_vendor}&{urlencode({'as': 'main'})}")
        async with person.session.get(to_hub, headers=forged, allow_redirects=False) as answer:
            status, said = answer.status, await answer.text()

    # then every address is the configured one, and the vendor, who compares it once more, gave the token
    assert (begun["callback_url"], ours["callback_url"]) == (back, back)
    assert begun["url"].startswith(f"{place.url}/oauth/begin/")
    assert parse_qs(urlsplit(to_vendor).query)["redirect_uri"] == [back]
    assert to_hub.startswith(f"{back}?")
    assert "evil.example" not in str(begun) + str(ours) + to_vendor + to_hub + said
    assert status == 200


async def test_answers_of_two_that_were_begun_in_one_browser_stay_apart(place: Place) -> None:
    one, two = await place.begin("one"), await place.begin("two")
    async with browser() as person:
        # given both under way in one browser, for two accounts of the same vendor
        first, second = await person.to_answer(one, "main"), await person.to_answer(two, "other")
        # when the second comes back first, each lands where it was begun
        assert (await person.get(second))[0] == 200
        assert (await person.get(first))[0] == 200
    assert {c.name: c.account for c in await place.hub.connections.all()} == {"one": "main", "two": "other"}


async def test_a_code_under_the_state_of_another_connection_is_refused(place: Place) -> None:
    one, two = await place.begin("one"), await place.begin("two")
    async with browser() as person:
        first, second = await person.to_answer(one, "main"), await person.to_answer(two, "other")
        # when somebody swaps the codes of two answers that one browser waits for
        for answer, of_other in ((first, second), (second, first)):
            given, other = (dict(parse_qsl(urlsplit(a).query)) for a in (answer, of_other))
            swapped = urlencode({**given, "code": other["code"]})
            status, _, said = await person.get(f"{answer.partition('?')[0]}?{swapped}")
            # then the verifier of the one does not open the code of the other
            assert (status, "invalid_grant" in said) == (400, True), said
    # and nothing is connected, under neither name
    assert await place.hub.connections.all() == []
    assert {(await place.state(begun))[0] for begun in (one, two)} == {"failed"}


async def test_the_answer_for_one_connection_does_not_change_another(place: Place) -> None:
    await place.connected("one", "main")
    await place.connected("two", "other")
    tokens = {
        name: await place.hub.connections.fields(await place.hub.connections.by_name(name)) for name in ("one", "two")
    }
    _, again = await place.call("POST", "/api/v1/connections/one/authorise", {})
    async with browser() as person:
        # when the account of the other is chosen for it
        status, said = await person.through(again, "other")
    # then it is refused, and both are as they were
    assert (status, "another connection for the other account" in said) == (400, True)
    for name, token in tokens.items():
        assert await place.hub.connections.fields(await place.hub.connections.by_name(name)) == token


async def test_a_person_who_does_not_allow_it_is_told_and_so_is_who_asked(place: Place) -> None:
    begun = await place.begin()
    async with browser() as person:
        status, said = await person.through(begun, deny="1")
    assert (status, "it was not allowed" in said) == (400, True)
    assert (await place.state(begun))[0] == "failed"


async def test_what_a_vendor_writes_into_its_answer_reaches_no_page(place: Place) -> None:
    begun = await place.begin()
    async with browser() as person:
        state = parse_qs(urlsplit(await person.to_vendor(begun)).query)["state"][0]
        evil = {"state": state, "iss": ISSUER, "error": "<script>alert(1)</script>", "error_description": "call 555"}
        status, _, said = await person.get(f"{place.url}/oauth/callback/club?{urlencode(evil)}")
    assert status == 400
    assert "script" not in said
    assert "555" not in said


async def test_nobody_waits_for_ever_for_a_plugin_that_fails_or_a_process_that_died(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(ctx: Any) -> Any:
        raise KeyError("id")

    failed, left = await place.begin(), await place.begin("left")
    with monkeypatch.context() as patch:
        patch.setattr("tests.club.club.whoami", broken)
        async with browser() as person:
            status, said = await person.through(failed)
    assert (status, "the plugin club failed (KeyError)" in said) == (400, True)
    assert (await place.state(failed))[0] == "failed"
    # when a process dies that took an answer
    async with place.hub.store.write() as c:
        await c.run("update authorisation set used_at = 1 where id = :id", id=left["id"])
    place.hub.clock.offset_ms += 600_001
    # then it is over for who waits
    assert (await place.state(left))[0] == "expired"


@pytest.mark.parametrize("when", ["the code is exchanged", "the connection is written down"])
async def test_an_app_that_is_removed_while_an_answer_is_taken_is_told_as_that(
    place: Place, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    begun, book, removed, left = await place.begin(), place.hub.connections, [], ["once"]

    async def remove() -> None:
        if left:
            left.pop()
            removed.append((await place.call("DELETE", "/api/v1/apps/ours"))[0])

    if when == "the code is exchanged":
        whoami = book.connector("club").whoami

        async def slow(ctx: Any) -> Any:
            await remove()
            return await whoami(ctx)

        monkeypatch.setattr("tests.club.club.whoami", slow)
    else:
        app_by_name = book.app_by_name

        async def late(name: str) -> Any:
            found = await app_by_name(name)
            await remove()
            return found

        monkeypatch.setattr(book, "app_by_name", late)
    async with browser() as person:
        status, said = await person.through(begun)
    assert removed == [200]
    assert (status, "the app or its plugin is gone" in said or "there is no app ours" in said) == (400, True), said
    assert "failed (" not in said


async def test_settings_that_were_changed_while_an_account_was_authorised_again_stay(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    club = place.hub.connections.connector("club")
    monkeypatch.setattr(club, "fields", (*club.fields, Field(name="region", title="Region", required=False)))
    await place.connected()
    await place.hub.connections.change("club", {"region": "eu1"})
    _, begun = await place.call("POST", "/api/v1/connections/club/authorise", {})
    await place.hub.connections.change("club", {"region": "eu2"})
    async with browser() as person:
        assert (await person.through(begun))[0] == 200
    assert (await place.hub.connections.by_name("club")).settings == {"region": "eu2"}


async def test_what_is_learnt_of_the_account_is_kept_with_its_settings(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def somewhere(ctx: Any) -> Account:
        return Account(id="main", title="A club", fields={"region": "eu7"})

    monkeypatch.setattr("tests.club.club.whoami", somewhere)
    await place.connected()
    connection = await place.hub.connections.by_name("club")
    assert (await place.hub.connections.context(connection)).settings == {"region": "eu7"}
    # and learnt anew when it is authorised again
    _, begun = await place.call("POST", "/api/v1/connections/club/authorise", {})
    async with browser() as person:
        assert (await person.through(begun))[0] == 200
    assert (await place.hub.connections.by_name("club")).settings == {"region": "eu7"}


async def test_the_account_must_be_the_same_when_it_is_authorised_again(place: Place) -> None:
    await place.connected()
    place.vendor.oauth.forget("main")
    with pytest.raises(AuthExpired, match="`hub connections reauthorise club`"):
        await place.hub.connections.test("club")
    assert (await place.hub.connections.by_name("club")).health == "needs re-authorisation"
    status, begun = await place.call("POST", "/api/v1/connections/club/authorise", {})
    assert status == 201
    async with browser() as person:
        status, said = await person.through(begun, "somebody-else")
        assert (status, "another connection for the other account" in said) == (400, True)
        _, begun = await place.call("POST", "/api/v1/connections/club/authorise", {})
        assert (await person.through(begun))[0] == 200
    assert (await place.hub.connections.test("club")).id == "main"


async def test_one_account_is_one_connection(place: Place) -> None:
    await place.connected()
    async with browser() as person:
        status, said = await person.through(await place.begin("twin"))
    assert (status, "is connected already, as club" in said) == (400, True)
    await place.connected("second", "other")
    assert {c.name: c.account for c in await place.hub.connections.all()} == {"club": "main", "second": "other"}


async def test_scopes_that_were_not_granted_are_named(place: Place) -> None:
    place.vendor.oauth.refuses = {"members.greet"}
    async with browser() as person:
        _, said = await person.through(await place.begin())
    assert "members.greet is missing" in said
    assert (await place.hub.connections.by_name("club")).scopes == {"members.read"}
    status, refused = await place.call(
        "POST",
        "/api/v1/authorisations",
        {"connector": "club", "name": "x", "app": "ours", "scopes": ["members.red"]},
    )
    assert (status, "members.read" in refused["detail"]) == (422, True)


async def test_a_scope_that_another_implies_is_granted_with_it(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    # given a vendor whose answer leaves out what goes without saying, and that wants to be asked in JSON
    implied = {"members.greet": ("members.read",)}
    kind = replace(club.browser, implied_scopes=implied, request_format="json")
    monkeypatch.setattr(club.club, "auth", [kind])
    place.vendor.oauth.refuses = {"members.read"}

    # when
    async with browser() as person:
        _, said = await person.through(await place.begin())

    # then
    assert "missing" not in said
    assert (await place.hub.connections.by_name("club")).scopes == {"members.read", "members.greet"}


async def test_what_was_granted_beyond_what_is_asked_for_is_not_asked_for_again(place: Place) -> None:
    # given a connection that was granted a scope which this version of the plugin does not know
    await place.connected()
    async with place.hub.store.write() as c:
        await c.run("update connection set scopes = :scopes", scopes='["members.old", "members.read"]')
        await connections.changed(c)
    await place.hub.connections.refresh(force=True)

    # when it is authorised again, without a word of scopes
    status, begun = await place.call("POST", "/api/v1/connections/club/authorise", {})

    # then the rest is asked for, as before
    assert (status, begun.get("scopes")) == (201, ["members.read"]), begun


async def test_the_browser_brings_its_cookie_back_also_where_the_hub_lies_below_a_path(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = await place.begin()
    monkeypatch.setattr(place.hub.settings, "public_url", "https://example.com/hub/")
    async with aiohttp.ClientSession() as session, session.get(begun["url"], allow_redirects=False) as answer:
        assert "; path=/hub/oauth;" in answer.headers["Set-Cookie"].lower()


async def test_an_answer_that_the_vendor_did_not_sign_is_refused_before_anything_is_sent(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a vendor that signs what the browser brings back, and a live connection to it
    seen: list[tuple[dict[str, str], str]] = []

    def check(answer: Mapping[str, str], fields: Mapping[str, str]) -> None:
        seen.append((dict(answer), fields["client_secret"]))
        raise SignatureError("the answer is not signed; nothing was connected")

    monkeypatch.setattr(club.club, "auth", [replace(club.browser, check_callback=check, issuer=None)])
    begun = await place.begin(sandbox=False)

    # when
    async with browser() as person:
        state = parse_qs(urlsplit(await person.to_vendor(begun)).query)["state"][0]
        answer = {"state": state, "code": "forged", "shop": "a"}
        status, _, said = await person.get(f"{place.url}/oauth/callback/club?{urlencode(answer)}")

    # then
    assert (status, "not signed" in said) == (400, True)
    assert seen == [(answer, SECRET)]
    assert await place.state(begun) == ("failed", "the answer is not signed; nothing was connected")
    assert place.vendor.oauth.asked == 0


async def _expire(place: Place) -> None:
    """Hub and vendor find the token over."""
    place.vendor.oauth.expire()
    async with place.hub.store.write() as c:
        await c.run("update connection set token_expires_at = :now", now=int(time.time() * 1000) - 1)
        await c.run("update meta set value = cast(cast(value as bigint) + 1 as text) where key = 'connections'")
    await place.hub.connections.refresh(force=True)


@pytest.mark.parametrize("rotates", [True, False])
async def test_fifty_calls_with_a_token_that_is_over_ask_for_one(place: Place, rotates: bool) -> None:
    place.vendor.oauth.rotates = rotates
    await place.connected()
    asked = place.vendor.oauth.asked
    for _ in range(3):
        await _expire(place)
        found = await asyncio.gather(*[place.hub.connections.test("club") for _ in range(50)])
        assert {account.id for account in found} == {"main"}
    assert place.vendor.oauth.asked == asked + 3


async def test_two_processes_never_use_one_refresh_token_twice(place: Place) -> None:
    import tests.club as club

    await place.connected()
    asked = place.vendor.oauth.asked
    async with open_hub(place.settings, plugins=load_plugins(extra=[club]), clock=place.hub.clock) as other:
        await other.connections.refresh(force=True)
        await _expire(place)
        await other.connections.refresh(force=True)
        found = await asyncio.gather(*[hub.connections.test("club") for hub in (place.hub, other) for _ in range(10)])
    assert {account.id for account in found} == {"main"}
    assert place.vendor.oauth.asked == asked + 1


async def test_a_renewal_loses_nothing_that_another_process_keeps_beside_the_token(place: Place) -> None:
    import tests.club as club

    await place.connected()
    async with open_hub(place.settings, plugins=load_plugins(extra=[club]), clock=place.hub.clock) as other:
        # given a token that is over, and a process that has just read the credentials
        await _expire(place)
        connection = place.hub.connections.current(await place.hub.connections.by_name("club"))
        # when another one keeps something there, and the first one renews the token
        await other.connections.add_secrets(connection, lambda known: {"hook_secrets": "h-1:s-1"})
        assert (await place.hub.connections.test("club")).id == "main"
        # then both are there
        await place.hub.connections.refresh(force=True)
        fields = await place.hub.connections.fields(await place.hub.connections.by_name("club"))
        assert fields["hook_secrets"] == "h-1:s-1"
        assert place.vendor.oauth.account_of(fields["access_token"]) == "main"


async def test_a_refresh_token_that_is_dead_says_so(place: Place) -> None:
    await place.connected()
    place.vendor.oauth.forget("main")
    await _expire(place)
    with pytest.raises(AuthExpired, match="invalid_grant"):
        await place.hub.connections.test("club")


async def test_a_removed_connection_is_revoked_at_the_vendor(place: Place) -> None:
    await place.connected()
    token = (await place.hub.connections.fields(await place.hub.connections.by_name("club")))["access_token"]
    status, removed = await place.call("DELETE", "/api/v1/connections/club")
    assert (status, removed["revoked"]) == (200, True)
    assert place.vendor.oauth.account_of(token) is None


async def test_a_plugin_that_fails_over_it_keeps_nobody_from_removing_a_connection(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    await place.connected()

    def broken(fields: Mapping[str, str]) -> str:
        return fields["no such field"]

    monkeypatch.setattr(club.club, "auth", [replace(club.browser, revoke_url=broken)])
    status, removed = await place.call("DELETE", "/api/v1/connections/club")
    assert (status, removed["revoked"]) == (200, False)
    assert removed["problem"] == "the plugin club failed (KeyError); the hub's log says where"
    assert await place.hub.connections.all() == []


async def test_an_app_s_secret_is_changed_for_all_of_its_connections(place: Place) -> None:
    await place.connected()
    app = await place.hub.connections.app_by_name("ours")
    status, changed = await place.call("PATCH", "/api/v1/apps/ours", {"fields": {"client_secret": "another-1"}})
    assert (status, changed["id"]) == (200, app.id)
    # what was not given stays, and nothing comes out
    fields = await place.hub.connections.fields(await place.hub.connections.app_by_name("ours"))
    assert fields == {"client_id": "c-1", "client_secret": "another-1"}
    assert "another-1" not in str(changed)
    # two who change it at once both count
    both = [{"client_id": "c-2"}, {"client_secret": "another-2"}]
    done = await asyncio.gather(*[place.call("PATCH", "/api/v1/apps/ours", {"fields": given}) for given in both])
    assert [status for status, _ in done] == [200, 200]
    fields = await place.hub.connections.fields(await place.hub.connections.app_by_name("ours"))
    assert fields == {"client_id": "c-2", "client_secret": "another-2"}


async def test_an_app_that_was_sealed_with_another_key_meanwhile_is_changed(place: Place) -> None:
    app = await place.hub.connections.app_by_name("ours")
    # given the same secrets, sealed again without a word, as a change of keys does
    sealed, _ = place.hub.connections.seal({"client_secret": SECRET}, app.id)
    async with place.hub.store.write() as c:
        await c.run("update app set secret = :secret where id = :id", secret=sealed, id=app.id)
    async with asyncio.timeout(20):
        status, _ = await place.call("PATCH", "/api/v1/apps/ours", {"fields": {"client_id": "c-3"}})
    assert status == 200
    fields = await place.hub.connections.fields(await place.hub.connections.app_by_name("ours"))
    assert fields == {"client_id": "c-3", "client_secret": SECRET}


async def test_an_app_goes_only_when_no_connection_belongs_to_it(place: Place) -> None:
    await place.connected()
    begun = await place.begin("later")
    status, refused = await place.call("DELETE", "/api/v1/apps/ours")
    assert (status, "serves the connection club;" in refused["detail"]) == (422, True)
    assert (await place.call("DELETE", "/api/v1/connections/club"))[0] == 200
    status, removed = await place.call("DELETE", "/api/v1/apps/ours")
    assert (status, removed["name"]) == (200, "ours")
    assert (await place.call("DELETE", "/api/v1/apps/ours"))[0] == 404
    assert (await place.call("PATCH", "/api/v1/apps/ours", {"fields": {"client_id": "x"}}))[0] == 404
    # what was begun for it ends with a sentence
    async with browser() as person:
        status, _, said = await person.get(begun["url"])
    assert (status, "the app or its plugin is gone" in said) == (400, True)


@pytest.mark.parametrize(("given", "other"), [("client_id", "client_secret"), ("client_secret", "client_id")])
async def test_an_app_that_could_authorise_nobody_is_refused(place: Place, given: str, other: str) -> None:
    half = {"connector": "club", "name": "half", "fields": {given: "c"}}
    status, refused = await place.call("POST", "/api/v1/apps", half)
    assert status == 422
    assert f"an app of club with a {given} needs a {other}, too" in refused["detail"]
    assert (await place.call("GET", "/api/v1/apps/half"))[0] == 404


async def test_an_app_that_lost_its_client_secret_is_told_apart_and_mended(place: Place) -> None:
    # given one that an earlier release took
    app = await place.hub.connections.add_app("club", "half", {"client_id": "c", "client_secret": "s"})
    sealed, _ = place.hub.connections.seal({}, app.id)
    async with place.hub.store.write() as c:
        await c.run("update app set secret = :secret where id = :id", secret=sealed, id=app.id)
        await connections.changed(c)
    await place.hub.connections.refresh(force=True)
    assert (await place.call("PATCH", "/api/v1/apps/half", {"fields": {"client_id": "c-2"}}))[0] == 422
    status, refused = await place.call(
        "POST", "/api/v1/authorisations", {"connector": "club", "name": "x", "app": "half", "sandbox": True}
    )
    assert (status, "client_secret" in refused["detail"]) == (422, True)
    assert (await place.call("PATCH", "/api/v1/apps/half", {"fields": {"client_secret": "s-2"}}))[0] == 200


async def test_a_static_way_in_refuses_what_is_authorised_in_the_browser(place: Place) -> None:
    with pytest.raises(ConfigError, match="authorised in the browser"):
        await place.hub.connections.add("club", "club", {}, app="ours")
    # a sandbox needs no browser
    await place.hub.connections.add("club", "club", {}, app="ours", sandbox=True)
    assert (await place.hub.connections.test("club")).id == "generated"


# -- the command line --------------------------------------------------------------------------------------------------


@pytest.fixture
def command(place: Place, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs `hub …` in a thread, on the same hub."""
    import tests.club as club

    keys = ",".join(key.get_secret_value() for key in place.settings.keys)
    for name, value in {
        "DATABASE_URL": place.settings.database_url,
        "KEYS": keys,
        "SANDBOX_URL": place.settings.sandbox_url,
        "PUBLIC_URL": place.url,
        "DATA_DIR": str(place.settings.data_dir),
        "DEVELOPMENT": "true",
    }.items():
        monkeypatch.setenv(f"HUB_{name}", value)
    monkeypatch.setattr("hub.process.load_plugins", lambda **how: load_plugins(extra=[club], **how))

    async def run(*arguments: str) -> Any:
        return await asyncio.to_thread(CliRunner().invoke, app, list(arguments))

    return run


async def test_the_command_prints_the_address_and_waits_for_the_answer(
    place: Place, command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    addresses: list[str] = []
    begin = Authorising.begin

    async def begun(self: Authorising, *arguments: Any, **more: Any) -> Any:
        found = await begin(self, *arguments, **more)
        addresses.append(found.url)
        return found

    monkeypatch.setattr(Authorising, "begin", begun)
    waiting = asyncio.create_task(
        command("connections", "add", "club", "main", "--app", "ours", "--sandbox", "--browser")
    )
    while not addresses:  # noqa: ASYNC110  (a thread of its own fills it)
        await asyncio.sleep(0.02)
    async with browser() as person:
        assert (await person.through({"url": addresses[0]}))[0] == 200
    result = await waiting
    assert result.exit_code == 0, result.output
    assert addresses[0] in result.output
    assert f"{place.url}/oauth/callback/club" in result.output
    # when a recipe needs what was not granted
    async with place.hub.store.write() as c:
        await c.run("update connection set scopes = '[]'")
        await c.run("update meta set value = cast(cast(value as bigint) + 1 as text) where key = 'connections'")
    await place.hub.connections.refresh(force=True)
    recipe = "recipe: hello\non: {event: club.joined}\nsteps:\n  - {do: club.greet, with: {who: x}}\n"
    await place.hub.library.apply(recipe, publish=True)
    # then the test of the connection says so
    tested = await command("connections", "test", "main")
    assert tested.exit_code == 0, tested.output
    assert "members.greet is missing, which hello needs" in " ".join(tested.output.split())
    # and so does the doctor, once for each scope
    hub = place.hub
    checked = [f async for f in in_database(place.settings, hub.store, hub.plugins) if f.check == "connection main"]
    assert [(f.state.value, f.mend) for f in checked] == [
        ("wrong", "hub connections reauthorise main --scope members.greet"),
        ("wrong", "hub connections reauthorise main --scope members.read"),
    ]
    assert checked[0].message == "nobody granted the scope members.greet, which hello needs"
    removed = await command("connections", "remove", "main", "--force")
    assert "club took its token back" in removed.output


async def test_the_command_says_why_an_account_was_not_connected(
    place: Place, command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = await command("connections", "add", "club", "main")
    assert (asked.exit_code, "hub apps add" in asked.output) == (2, True)
    begun = await command("connections", "add", "club", "main", "--app", "ours", "--sandbox", "--browser", "--json")
    async with browser() as person:
        assert (await person.through(json.loads(begun.stdout), deny="1"))[0] == 400

    async def already(self: Authorising, *arguments: Any, **more: Any) -> Any:
        found = json.loads(begun.stdout)
        return Begun(found["id"], found["url"], "https://hub.example.com/oauth/callback/club", (), 0)

    monkeypatch.setattr(Authorising, "begin", already)
    result = await command("connections", "add", "club", "main", "--app", "ours", "--sandbox", "--browser")
    assert result.exit_code != 0
    assert "it was not allowed" in result.output
