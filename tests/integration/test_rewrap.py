"""Changing the keys that credentials are sealed with, while the hub runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hub.errors import ConfigError
from hub.rewrap import rewrap
from hub.store import connections as rows
from hub.store.session import Store
from hub.vault import Vault, generate_key
from tests.integration.conftest import Cli, Process

OLD, NEW = generate_key(), generate_key()


async def _add(store: Store, vault: Vault, *names: str) -> None:
    async with store.write() as c:
        common: dict[str, Any] = {"connector": "acme", "inbound_key": None, "settings": {}, "created_at": 1}
        secret = vault.seal({"client_secret": "s-app"}, "app-1")
        await rows.add_app(
            c, id="app-1", name="app", secret=secret, key_id=vault.key_id, **{**common, "inbound_key": "k-app"}
        )
        for name in names:
            await rows.add(
                c,
                id=name,
                name=name,
                app_id=None,
                account=name,
                auth="static_token",
                mode="sandbox",
                secret=vault.seal({"token": f"s-{name}"}, name),
                key_id=vault.key_id,
                **{**common, "inbound_key": f"k-{name}"},
            )


async def _opened(store: Store, vault: Vault) -> dict[str, dict[str, str]]:
    async with store.read() as c:
        found = await c.all("select id, secret, key_id from connection union all select id, secret, key_id from app")
    return {row["id"]: vault.open(bytes(row["secret"]), row["id"], row["key_id"]) for row in found}


async def test_afterwards_the_old_key_is_not_needed(store: Store) -> None:
    await _add(store, Vault([OLD]), "c-1", "c-2")
    assert await rewrap(store, Vault([NEW, OLD])) == 3
    assert await _opened(store, Vault([NEW])) == {
        "app-1": {"client_secret": "s-app"},
        "c-1": {"token": "s-c-1"},
        "c-2": {"token": "s-c-2"},
    }
    # A second time there is nothing to do.
    assert await rewrap(store, Vault([NEW, OLD])) == 0


async def test_a_key_that_is_missing_stops_it_before_anything_is_changed(store: Store) -> None:
    await _add(store, Vault([OLD]), "c-1")
    with pytest.raises(ConfigError, match="which HUB_KEYS does not hold"):
        await rewrap(store, Vault([NEW]))
    assert set(await _opened(store, Vault([OLD]))) == {"app-1", "c-1"}


async def test_a_token_that_is_renewed_meanwhile_is_kept(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    old, both = Vault([OLD]), Vault([NEW, OLD])
    await _add(store, old, "c-1")
    reseal, renewed = rows.reseal, False

    async def renewing_first(c: Any, kind: str, id_: str, **given: Any) -> bool:
        nonlocal renewed
        if id_ == "c-1" and not renewed:
            # given a process that does not know the new key yet and stores a token in this moment
            renewed = True
            secret = old.seal({"token": "newer"}, id_)
            await rows.store_token(c, id_, epoch=0, secret=secret, key_id=old.key_id, expires_at_ms=9)
        return await reseal(c, kind, id_, **given)

    monkeypatch.setattr(rows, "reseal", renewing_first)
    assert await rewrap(store, both) == 2
    assert (await _opened(store, Vault([NEW])))["c-1"] == {"token": "newer"}


def test_while_a_process_does_not_know_the_key_nothing_is_sealed_with_it(
    cli: Cli, started: Callable[..., Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUB_KEYS", OLD)
    made = cli("connections", "add", "shopify", "shop", "--set", "shop=my-shop.myshopify.com", "--sandbox")
    assert made.exit_code == 0, made.stderr
    new = Vault([NEW]).key_id

    # Given a hub that was started before the new key was there
    hub = started("up", "--port", "0", "--no-sandbox")
    hub.wait_for("Stop with Ctrl+C")
    monkeypatch.setenv("HUB_KEYS", f"{NEW},{OLD}")

    # When it is rotated, then it says which process has to be restarted, and nothing was changed
    refused = cli("keys", "rotate")
    assert refused.exit_code == 1
    assert f"does not know the key {new} and could not open what it seals: up " in refused.stderr
    assert "restart it with the HUB_KEYS of this command" in refused.stderr
    assert [row["credentials"] for row in cli.json("keys", "list")] == [0, 2]

    # And once it was restarted, it goes on
    hub.popen.terminate()
    hub.popen.wait()
    started("up", "--port", "0", "--no-sandbox").wait_for("Stop with Ctrl+C")
    assert cli.json("keys", "rotate")["sealed"] == 2


def test_a_hub_whose_keys_open_nothing_does_not_start(cli: Cli, started: Callable[..., Process]) -> None:
    # Given a copy of a database to which the file with the keys was not copied
    made = cli("connections", "add", "shopify", "shop", "--set", "shop=my-shop.myshopify.com", "--sandbox")
    assert made.exit_code == 0, made.stderr
    file = cli.data_dir / "keys"
    right = file.read_text()
    file.unlink()

    # When the hub is started, then it says what is missing and where it goes
    hub = started("up", "--port", "0", "--no-sandbox")
    assert hub.popen.wait(30) == 1
    said = hub.err.read_text()
    assert f"they are sealed with {Vault([right.strip()]).key_id}, and the file {file} holds " in said
    assert "put the key back that belongs to this database" in said

    # And with the right ones it starts
    file.write_text(right)
    started("up", "--port", "0", "--no-sandbox").wait_for("Stop with Ctrl+C")


def test_the_command_says_which_keys_may_go(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUB_KEYS", OLD)
    made = cli("connections", "add", "shopify", "shop", "--set", "shop=my-shop.myshopify.com", "--sandbox")
    assert made.exit_code == 0, made.stderr
    old, new = Vault([OLD]).key_id, Vault([NEW]).key_id

    # Given a new key in front of the old one
    monkeypatch.setenv("HUB_KEYS", f"{NEW},{OLD}")
    shown = cli.json("keys", "list")
    assert shown == [
        {"key": new, "use": "seals and opens", "credentials": 0},
        # those of the connection, and the secret under which erased people are known
        {"key": old, "use": "opens", "credentials": 2},
    ]

    # When it is rotated, the old one is named as not needed
    said = cli("keys", "rotate").stdout
    assert "2 credentials sealed again" in said
    assert old in said
    assert cli.json("keys", "rotate") == {"sealed": 0, "key": new, "not_needed": [old]}

    # Then it can go; without the new one nothing would open
    monkeypatch.setenv("HUB_KEYS", NEW)
    assert cli("connections", "list").exit_code == 0
    assert cli.json("keys", "list") == [{"key": new, "use": "seals and opens", "credentials": 2}]
    monkeypatch.setenv("HUB_KEYS", OLD)
    assert cli.json("keys", "list")[1] == {"key": new, "use": "missing in HUB_KEYS", "credentials": 2}
    refused = cli("keys", "rotate")
    assert refused.exit_code != 0
    assert new in refused.stderr
