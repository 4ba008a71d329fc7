"""Connections in use: tokens that are exchanged and renewed, accounts that stay the same, sandboxes that stay sandboxes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from hub import ClientCredentials, Connector, Field
from hub.connections import tokens as tokens_module
from hub.errors import AuthExpired, ConfigError, ConnectionConfigError, NotSent
from hub.plugins import Plugins
from hub.process import open_hub
from hub.store import views, work
from hub.store.runs import Lease
from tests.acme import AcmeSandbox, acme
from tests.integration.test_batches import JOIN
from tests.integration.test_runs import one_step


@pytest.fixture
def token_server(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Acme with client credentials: each exchange gives the sandbox's token; exchanges are counted."""
    state: dict[str, Any] = {"exchanges": 0, "lives_s": 3600, "refuse": False, "token": None}
    routes = AcmeSandbox.routes

    async def exchange(self: AcmeSandbox, request: web.Request) -> web.Response:
        state["exchanges"] += 1
        await asyncio.sleep(0.05)
        if state["refuse"]:
            return web.json_response({"error": "invalid_client"}, status=401)
        token = state["token"] or self.secret("main", "token")
        return web.json_response({"access_token": token, "expires_in": state["lives_s"]})

    def with_token(self: AcmeSandbox) -> list[web.RouteDef]:
        async def handle(request: web.Request) -> web.Response:
            return await exchange(self, request)

        return [*routes(self), web.post("/token", handle)]

    monkeypatch.setattr(AcmeSandbox, "routes", with_token)
    kind = ClientCredentials(
        headers=lambda fields: {"Authorization": f"Bearer {fields['access_token']}"},
        token_url=lambda fields: "https://api.acme.example/token",
        fields=(
            Field(name="client_id", title="Client id"),
            Field(name="client_secret", title="Client secret", secret=True),
        ),
    )
    monkeypatch.setattr(acme, "auth", [*acme.auth, kind])
    return state


async def _exchanging(it: Any) -> None:
    async with it.hub.store.write() as c:
        await c.run("delete from connection")
    await it.hub.connections.refresh(force=True)
    it.hub.connections._known.generation = -1
    await it.hub.connections.refresh(force=True)
    await it.hub.connections.add(
        "acme", "acme", {"account": "main", "client_id": "c"}, sandbox=True, auth="client_credentials"
    )


async def test_many_calls_at_once_exchange_one_token(
    running: Callable[..., Any], database_url: str, token_server: dict[str, Any]
) -> None:
    async with running(database_url, work=False) as it:
        await _exchanging(it)
        accounts = await asyncio.gather(*[it.hub.connections.test("acme") for _ in range(50)])
        assert {a.id for a in accounts} == {"main"}
        assert token_server["exchanges"] == 1


async def test_a_token_is_renewed_before_it_expires(
    running: Callable[..., Any], sqlite_url: str, token_server: dict[str, Any]
) -> None:
    async with running(sqlite_url, work=False) as it:
        await _exchanging(it)
        token_server["lives_s"] = 60
        await it.hub.connections.test("acme")
        await it.hub.connections.test("acme")
        assert token_server["exchanges"] == 2


async def test_a_refused_token_is_renewed_once_and_then_the_account_must_be_connected_again(
    running: Callable[..., Any], sqlite_url: str, token_server: dict[str, Any]
) -> None:
    async with running(sqlite_url, work=False) as it:
        await _exchanging(it)
        token_server["token"] = "dead"
        with pytest.raises(AuthExpired):
            await it.hub.connections.test("acme")
        connection = await it.hub.connections.by_name("acme")
        assert await it.hub.connections.tokens.renew_refused(replace(connection, token_epoch=0)) is True
        assert await it.hub.connections.tokens.renew_refused(connection) is False


async def test_an_exchanged_token_is_sealed_and_goes_with_the_credentials_it_was_given_for(
    running: Callable[..., Any], sqlite_url: str, token_server: dict[str, Any]
) -> None:
    async with running(sqlite_url, work=False) as it:
        await _exchanging(it)
        await it.hub.connections.test("acme")
        token = it.sandbox.secret("main", "token")
        async with it.hub.store.write() as c:
            await c.run("update connection set mode = 'live'")
        await it.hub.connections.refresh(force=True)
        it.hub.connections._known.generation = -1
        await it.hub.connections.refresh(force=True)
        changed = await it.hub.connections.reauthorise("acme", {"client_secret": "another"})
        assert token not in str(changed.settings)
        assert "access_token" not in await it.hub.connections.fields(changed)


async def test_client_credentials_that_are_refused_say_so(
    running: Callable[..., Any], sqlite_url: str, token_server: dict[str, Any]
) -> None:
    async with running(sqlite_url, work=False) as it:
        await _exchanging(it)
        token_server["refuse"] = True
        with pytest.raises(AuthExpired, match="no token for acme"):
            await it.hub.connections.test("acme")


async def test_a_connection_whose_kind_of_auth_is_gone_says_so_and_can_be_removed(
    running: Callable[..., Any], sqlite_url: str, token_server: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(sqlite_url, work=False) as it:
        await _exchanging(it)
        # When a newer release of the plugin has another way to authorise
        monkeypatch.setattr(acme, "auth", acme.auth[:-1])

        # Then its calls say what is the matter, and nobody has to keep it
        with pytest.raises(ConnectionConfigError, match="acme has no auth client_credentials; it has "):
            await it.hub.connections.test("acme")
        removed = await it.hub.connections.remove("acme")
    assert "has no auth client_credentials" in removed.problem


async def test_new_credentials_must_be_of_the_same_account_and_wake_what_waited(
    running: Callable[..., Any], sqlite_url: str
) -> None:
    async with running(sqlite_url, work=False) as it:
        live = {"account": "shop", "token": "one", "webhook_secret": "w"}
        await it.hub.connections.add("acme", "shop", live)
        async with it.hub.store.write() as c:
            await work.add_if_absent(c, "run", "r-1", "q", 0)
            [claim] = [x for x in await work.claim(c, now_ms=10**14, lease_ms=1, owner="w", most=9) if x.ref == "r-1"]
            await work.park(c, claim, "connection:shop")
        await it.hub.connections.unhealthy(await it.hub.connections.by_name("shop"), "refused")
        with pytest.raises(ConnectionConfigError, match="of the account other, the connection shop is of shop"):
            await it.hub.connections.reauthorise("shop", {"account": "other", "token": "two"})
        changed = await it.hub.connections.reauthorise("shop", {"token": "two"})
        assert changed.health == "ok"
        assert (await it.hub.connections.fields(changed))["token"] == "two"
        async with it.hub.store.read() as c:
            row = await c.first("select parked_on from work where ref = 'r-1'")
        assert row == {"parked_on": None}


async def test_a_sandbox_connection_never_becomes_a_live_one(running: Callable[..., Any], sqlite_url: str) -> None:
    async with running(sqlite_url, work=False) as it:
        with pytest.raises(ConnectionConfigError, match="in sandbox mode"):
            await it.hub.connections.reauthorise("acme", {"token": "real"})


async def test_a_connection_without_its_key_says_which_key_is_missing(
    running: Callable[..., Any], sqlite_url: str
) -> None:
    from hub.vault import Vault, generate_key

    async with running(sqlite_url, work=False) as it:
        it.hub.connections._vault = Vault([generate_key()])
        it.hub.connections._known.opened.clear()
        with pytest.raises(ConfigError, match="which HUB_KEYS does not hold"):
            await it.hub.connections.test("acme")


async def test_another_process_sees_a_new_connection_within_a_second(
    running: Callable[..., Any], database_url: str
) -> None:
    from hub.process import open_hub

    async with running(database_url, work=False) as it, open_hub(it.settings, plugins=it.hub.plugins) as other:
        assert [c.name for c in await other.connections.all()] == ["acme"]
        await it.hub.connections.add("acme", "second", {"account": "other"}, sandbox=True)
        assert (await other.connections.by_name("second")).account == "other"


def test_every_connector_tells_its_kinds_of_auth_apart() -> None:
    from hub.plugins import load_plugins

    for connector in load_plugins().catalogue.connectors.values():
        assert isinstance(connector, Connector)
        names = [kind.name for kind in connector.auth]
        assert len(names) == len(set(names)), connector.name


async def _parked(it: Any) -> int:
    async with it.hub.store.read() as c:
        row = await c.first("select count(*) as n from work where parked_on = 'connection:acme' and kind <> 'poll'")
    return int(row["n"])


async def test_processes_that_need_a_token_at_once_exchange_one(
    running: Callable[..., Any], database_url: str, token_server: dict[str, Any], acme_plugins: Plugins
) -> None:
    async with running(database_url, work=False) as it:
        await _exchanging(it)
        async with (
            open_hub(it.settings, plugins=acme_plugins) as other,
            open_hub(it.settings, plugins=acme_plugins) as third,
        ):
            accounts = await asyncio.gather(
                *[hub.connections.test("acme") for hub in (it.hub, other, third) for _ in range(5)]
            )
        assert {a.id for a in accounts} == {"main"}
        assert token_server["exchanges"] == 1


async def test_a_process_killed_over_a_renewal_is_waited_for_and_then_replaced(
    running: Callable[..., Any], database_url: str, token_server: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens_module, "_RENEW_LOOKS", 2)
    async with running(database_url, work=False) as it:
        await _exchanging(it)
        # given a process that got its answer and died before it stored it
        async with it.hub.store.write() as c:
            in_a_while = it.hub.clock.now_ms() + 20_000
            await c.run("update connection set token_lease = 'dead', token_lease_until = :until", until=in_a_while)
        with pytest.raises(NotSent, match="another process is renewing"):
            await it.hub.connections.test("acme")
        assert token_server["exchanges"] == 0
        # when its lease has ended
        async with it.hub.store.write() as c:
            await c.run("update connection set token_lease_until = 1")
        assert (await it.hub.connections.test("acme")).id == "main"
        assert token_server["exchanges"] == 1


async def test_a_renewal_that_fails_lets_others_try_at_once(
    running: Callable[..., Any], sqlite_url: str, token_server: dict[str, Any]
) -> None:
    async with running(sqlite_url, work=False) as it:
        await _exchanging(it)
        token_server["refuse"] = True
        with pytest.raises(AuthExpired):
            await it.hub.connections.test("acme")
        token_server["refuse"] = False
        assert (await it.hub.connections.test("acme")).id == "main"


async def test_a_secret_that_is_refused_parks_runs_and_batches_without_spending_attempts(
    running: Callable[..., Any], database_url: str, token_server: dict[str, Any]
) -> None:
    async with running(database_url) as it:
        await _exchanging(it)
        await it.publish(one_step("acme.put_note"))
        await it.publish(JOIN)
        token_server["refuse"] = True
        await it.deliver("signed_up", {"id": "s-1", "email": "a@example.com", "cart": "vip"})
        await it.advance(15_000)
        assert await _parked(it) == 2
        assert (await it.hub.connections.by_name("acme")).health == "needs re-authorisation"
        efforts = [e["attempts"] for run in await it.runs() if run["recipe"] == "one-step" for e in run["effects"]]
        assert efforts == [0]
        # when somebody mended it at the vendor and says so
        token_server["refuse"] = False
        await it.hub.connections.test("acme")
        await it.advance(30_000)
        assert {run["status"] for run in await it.runs()} == {"done"}
        assert sorted(r.operation for r in it.sandbox.log) == ["add_members", "put_note", "put_note"]


async def test_a_connection_mended_while_its_run_is_being_parked_leaves_nothing_behind(
    running: Callable[..., Any], database_url: str
) -> None:
    async with running(database_url) as it:
        connection = await it.hub.connections.by_name("acme")
        async with it.hub.store.write() as c:
            await work.add_if_absent(c, "batch", "acme|acme.add_members|vip", "|acme|2", 0)
            await c.run("update work set parked_on = 'connection:acme', due_at = :never", never=work.NEVER_MS)
        # The credentials that were refused are not those that are stored now.
        assert not await it.hub.connections.unhealthy(replace(connection, token_epoch=-1), "refused")
        assert (await it.hub.connections.by_name("acme")).health == "ok"
        await it.hub.connections.unpark_if_healthy(connection)
        assert await _parked(it) == 0


_LATER = """
recipe: later
on: {event: acme.signed_up}
steps:
  - wait: 1h
  - {do: acme.put_note, with: {key: "{{ trigger.id }}"}}
"""


async def test_what_calls_a_removed_connection_waits_for_another_of_its_name(
    running: Callable[..., Any], database_url: str
) -> None:
    async with running(database_url) as it:
        await it.publish(_LATER)
        await it.publish(JOIN)
        await it.deliver("signed_up", {"id": "s-1", "email": "a@example.com", "cart": "vip"})
        await it.rest()
        removed = (await it.hub.connections.remove("acme")).connection
        async with it.hub.store.read() as c:
            assert await c.all("select id from connection") == []
        assert await it.hub.connections.by_inbound_key("acme", removed.inbound_key) is None
        await it.advance(3_600_000)
        waiting = [run for run in await it.runs() if run["status"] == "parked"]
        assert {run["recipe"]: run["reason"] for run in waiting}["later"] == (
            "there is no connection acme any more; add one of this name, or cancel the run"
        )
        assert it.sandbox.log == []
        # when somebody connects it again
        await it.hub.connections.add("acme", "acme", {"account": "main"}, sandbox=True)
        await it.advance(60_000)
        assert {run["status"] for run in await it.runs()} == {"done"}
        assert sorted(r.operation for r in it.sandbox.log) == ["add_members", "put_note", "put_note"]


async def test_an_event_of_a_removed_connection_stands_in_nobodys_way(
    running: Callable[..., Any], database_url: str
) -> None:
    async with running(database_url, work=False) as it:
        await it.publish(_LATER)
        await it.deliver("signed_up", {"id": "s-1", "email": "a@example.com"})
        await it.hub.connections.remove("acme")
        await it.hub.connections.add("acme", "other", {"account": "main"}, sandbox=True)
        await it.deliver("signed_up", {"id": "s-2", "email": "b@example.com"}, connection="other")
        routed = await it.hub.pump._router.route(Lease("test", 0, 0))
        assert routed.events == 2
        # It belongs to its person, and starts nothing: no recipe is bound to what it came from.
        async with it.hub.store.read() as c:
            assert (await views.show_contact(c, await views.find_contact(c, "a@example.com")))["runs"] == []


async def test_a_connection_that_published_recipes_use_is_named_with_them(
    running: Callable[..., Any], sqlite_url: str
) -> None:
    async with running(sqlite_url, work=False) as it:
        await it.hub.library.require_unused("acme")
        await it.publish(_LATER)
        await it.publish(one_step("acme.put_note"))
        with pytest.raises(ConfigError, match="published recipes later, one-step; pause them or bind"):
            await it.hub.library.require_unused("acme")
        await it.hub.library.pause("later")
        await it.hub.library.pause("one-step")
        await it.hub.library.require_unused("acme")


async def test_settings_that_are_changed_at_the_same_moment_are_all_changed(
    running: Callable[..., Any], database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(database_url, work=False) as it:
        more = [Field(name=name, title=name, required=False) for name in ("colour", "size")]
        monkeypatch.setattr(acme, "fields", (*acme.fields, *more))
        connections = it.hub.connections
        fields, left = connections.fields, ["once"]

        async def slow(owner: Any) -> dict[str, str]:
            found = await fields(owner)
            if left:
                left.pop()
                await connections.change("acme", {"colour": "red"})
            return found

        monkeypatch.setattr(connections, "fields", slow)
        await connections.change("acme", {"size": "large"})
        settings = (await connections.by_name("acme")).settings
        assert (settings["colour"], settings["size"]) == ("red", "large")
