"""Loading plugins: what is wrong with one is said by name, with the mend."""

from __future__ import annotations

import asyncio
import logging
import threading
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pluggy
import pytest
from pydantic import BaseModel, Field

from hub import Account, ActionContext, Connector, Delivery, OAuth2, RegisterAction, RegisterConnector, hookimpl
from hub.connector import Action, Trigger
from hub.errors import ConfigError, PermanentError, PluginError
from hub.logs import Sparing
from hub.plugins import load_plugins
from hub.samples import sample
from tests import acme as acme_plugin


class Empty(BaseModel):
    """Nothing."""


def connector(name: str) -> Connector:
    return Connector(
        name=name,
        title=name,
        hosts=["x.example"],
        base_url=lambda f: "https://x.example",
        account=lambda f: "a",
        auth=[],
    )


def plugin(name: str, **hooks: Callable[..., Any]) -> types.ModuleType:
    module = types.ModuleType(name)
    for hook, function in hooks.items():
        function.__name__ = hook
        setattr(module, hook, function)
    return module


def test_a_plugin_brings_its_connector_with_triggers_and_actions() -> None:
    loaded = load_plugins(extra=[acme_plugin])
    [info] = [i for i in loaded.infos if i.name == "tests.acme"]
    assert info.connectors == ("acme",)
    assert "acme.purchased" in info.triggers
    assert "acme.send_text" in info.actions
    assert loaded.catalogue.actions_for("sms.send")


def test_a_misspelt_hook_stops_the_start_with_the_nearest_name() -> None:
    @hookimpl
    def hook(register: RegisterConnector) -> None: ...

    with pytest.raises(
        ConfigError,
        match=r"plugin odd: there is no hook hub_register_conectors; did you mean hub_register_connectors\?",
    ):
        load_plugins(extra=[plugin("odd", hub_register_conectors=hook)])


def test_a_wrong_argument_stops_the_start_with_the_allowed_ones() -> None:
    @hookimpl
    def hook(registry: object) -> None: ...

    with pytest.raises(
        ConfigError, match=r"plugin odd: hub_register_connectors has no argument registry; did you mean register\?"
    ):
        load_plugins(extra=[plugin("odd", hub_register_connectors=hook)])


def test_a_name_that_is_taken_names_both_plugins() -> None:
    def registering() -> Callable[..., None]:
        @hookimpl
        def hook(register: RegisterConnector) -> None:
            register(connector("twins"))

        return hook

    with pytest.raises(ConfigError, match="plugin two: the connector twins is already registered by plugin one"):
        load_plugins(
            extra=[
                plugin("one", hub_register_connectors=registering()),
                plugin("two", hub_register_connectors=registering()),
            ]
        )


def test_a_plugin_that_raises_while_registering_is_named() -> None:
    @hookimpl
    def hook(register: RegisterConnector) -> None:
        raise RuntimeError("no luck")

    with pytest.raises(ConfigError, match=r"plugin odd: hub_register_connectors failed \(RuntimeError: no luck\)"):
        load_plugins(extra=[plugin("odd", hub_register_connectors=hook)])


def test_a_plugin_that_does_not_import_is_named_and_may_be_quarantined(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import EntryPoint

    broken = EntryPoint(name="broken", value="no_such_module_anywhere", group="hub")
    monkeypatch.setattr("hub.plugins.entry_points", lambda group: [broken])
    with pytest.raises(ConfigError, match="plugin broken: it fails to import"):
        load_plugins()
    assert "fails to import" in load_plugins(quarantine=True, extra=[acme_plugin]).catalogue.unusable["broken"]


def test_a_plugin_that_ends_while_it_is_imported_is_named_with_the_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from importlib.metadata import EntryPoint

    # given
    (tmp_path / "hub_broken").mkdir()
    (tmp_path / "hub_broken" / "__init__.py").write_text("from hub_broken import triggers\n")
    (tmp_path / "hub_broken" / "triggers.py").write_text("\nnothing_of_this_name\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    broken = EntryPoint(name="broken", value="hub_broken", group="hub")
    monkeypatch.setattr("hub.plugins.entry_points", lambda group: [broken])

    # when, then
    with pytest.raises(ConfigError, match=r"NameError: .*, at .*triggers\.py:2\); mend it or uninstall hub_broken"):
        load_plugins()


@pytest.mark.parametrize(
    ("kind", "called"), [("simulate", "input, now_ms"), ("lookup", "ctx, input"), ("describe", "input")]
)
def test_a_function_that_cannot_be_called_as_it_will_be_is_refused_at_once(kind: str, called: str) -> None:
    # given
    one = connector("post")

    @one.action("send", input=Empty, output=Empty)
    async def send(ctx: ActionContext, input: Empty) -> Empty:
        return input

    # when, then
    with pytest.raises(PluginError, match=rf"of send \(odd\) is called with \({called}\)"):

        @getattr(send, kind)
        def odd(*, somehow: int) -> None: ...


def test_a_simulation_or_description_that_raises_is_a_call_that_failed() -> None:
    one = connector("post")

    @one.action("send", input=Empty, output=Empty)
    async def send(ctx: ActionContext, input: Empty) -> Empty:
        return input

    @send.simulate
    def pretend(input: Empty, now_ms: int) -> Empty:
        raise KeyError("id")

    with pytest.raises(PermanentError, match=r"the simulation of post\.send \(pretend\) raised KeyError"):
        send.rehearse(Empty(), 0)

    @send.describe
    def tell(input: Empty) -> str:
        raise KeyError("id")

    with pytest.raises(PermanentError, match=r"the description of post\.send \(tell\) raised KeyError"):
        send.dry_run(Empty())


class Renamed(BaseModel):
    """A payload whose vendor calls a field otherwise."""

    ticket_id: str = Field(validation_alias="id")


def test_the_data_of_an_event_is_known_by_the_names_of_fields() -> None:
    # given
    one = connector("post")

    @one.trigger("opened", payload=Renamed, fact=lambda opened: opened.ticket_id)
    def opened(delivery: Delivery) -> list[Renamed]:
        return [Renamed.model_validate(delivery.json())]

    # when
    data = sample(opened, 0)

    # then
    assert data == {"ticket_id": "ticket-id-1"}
    assert opened.event(opened.recall(data), 0).data == data
    assert opened.recall({"id": "t-1"}).ticket_id == "t-1"


def test_an_action_for_somebody_else_s_connector() -> None:
    async def run(ctx: object, input: Empty) -> Empty:
        return input

    @hookimpl
    def hook(register: RegisterAction) -> None:
        register(
            Action(connector="", name="bonus", title="Bonus", input=Empty, output=Empty, run=run), connector="acme"
        )

    loaded = load_plugins(extra=[acme_plugin, plugin("bonus", hub_register_actions=hook)])
    try:
        assert loaded.catalogue.action("acme.bonus") is not None
    finally:
        del acme_plugin.acme.actions["bonus"]


def test_an_action_for_an_unknown_connector_is_refused_with_the_nearest_name() -> None:
    async def run(ctx: object, input: Empty) -> Empty:
        return input

    @hookimpl
    def hook(register: RegisterAction) -> None:
        register(
            Action(connector="", name="bonus", title="Bonus", input=Empty, output=Empty, run=run), connector="acmee"
        )

    with pytest.raises(ConfigError, match=r"there is no connector acmee to add to; did you mean acme\?"):
        load_plugins(extra=[acme_plugin, plugin("bonus", hub_register_actions=hook)])


def _browser(**more: Any) -> Connector:
    kind = OAuth2(
        headers=lambda fields: {},
        authorise_url=lambda fields: "https://id.club.example/authorize",
        token_url=lambda fields: "https://id.club.example/token",
        scopes=("members.read",),
    )
    return Connector(
        name="club",
        title="Club",
        hosts=["id.club.example"],
        base_url=lambda fields: "https://id.club.example",
        account=lambda fields: "",
        auth=[kind],
        **more,
    )


def test_an_account_of_the_browser_must_be_able_to_tell_whose_it_is() -> None:
    @hookimpl
    def hook(register: RegisterConnector) -> None:
        register(_browser())

    with pytest.raises(ConfigError, match="cannot tell whose account it is; give it whoami"):
        load_plugins(extra=[plugin("club", hub_register_connectors=hook)])


def test_a_scope_that_is_never_asked_for_is_refused_with_the_nearest_name() -> None:
    async def whoami(ctx: object) -> Account:
        return Account(id="1", title="Club")

    club = _browser(whoami=whoami)

    @club.action("greet", input=Empty, output=Empty, scopes=["members.red"])
    async def greet(ctx: object, input: Empty) -> Empty:
        return input

    @hookimpl
    def hook(register: RegisterConnector) -> None:
        register(club)

    with pytest.raises(ConfigError, match=r"members.red, which club never asks for; did you mean members.read\?"):
        load_plugins(extra=[plugin("club", hub_register_connectors=hook)])


def test_all_failures_are_reported_together() -> None:
    @hookimpl
    def one(register: RegisterConnector) -> None:
        raise RuntimeError("first")

    @hookimpl
    def two(register: RegisterConnector) -> None:
        raise RuntimeError("second")

    with pytest.raises(ConfigError, match=r"(?s)first.*second"):
        load_plugins(extra=[plugin("a", hub_register_connectors=one), plugin("b", hub_register_connectors=two)])


@pytest.mark.parametrize("hook", ["hub_register_connectors", "hub_register_triggers", "hub_register_actions"])
@pytest.mark.parametrize("how", ["hangs", "raises", "leaves", "floods"])
def test_a_plugin_that_misbehaves_while_registering_is_left_out_whole(hook: str, how: str) -> None:
    # given a plugin that registers something, and then does not come to an end as it should
    released = threading.Event()

    def one(register: Callable[..., None], name: str) -> None:
        if hook == "hub_register_connectors":
            register(connector(name))
        elif hook == "hub_register_actions":
            register(Action(connector="", name=name, title="", input=Empty, output=Empty, run=_run), connector="acme")
        else:
            register(Trigger(connector="", name=name, title="", payload=Empty, fact=str), connector="acme")

    @hookimpl
    def odd(register: Callable[..., None]) -> None:
        one(register, "first")
        if how == "hangs":
            released.wait()
        elif how == "floods":
            for number in range(100_000):
                one(register, f"n{number}")
        raise {"raises": RuntimeError("no luck"), "leaves": SystemExit(3)}.get(how, RuntimeError("too late"))

    @hookimpl
    def sound(register: RegisterConnector) -> None:
        register(connector("sound"))

    # when
    try:
        loaded = load_plugins(
            quarantine=True,
            extra=[acme_plugin, plugin("odd", **{hook: odd}), plugin("well", hub_register_connectors=sound)],
            register_s=0.2,
        )
    finally:
        released.set()

    # then nothing of it is there, everything of the others is, and it is said why
    said = {
        "hangs": "did not come back within",
        "raises": "no luck",
        "leaves": "SystemExit",
        "floods": "more than 1,000",
    }
    assert said[how] in loaded.catalogue.unusable["odd"]
    assert "sound" in loaded.catalogue.connectors
    assert "first" not in {*loaded.catalogue.connectors, *acme_plugin.acme.actions, *acme_plugin.acme.triggers}
    assert not any(name.startswith("n0") for name in {*loaded.catalogue.connectors, *acme_plugin.acme.actions})
    assert "odd" not in {info.name for info in loaded.infos}


async def _run(ctx: object, input: Empty) -> Empty:
    return input


def test_who_is_left_out_takes_no_part_either() -> None:
    @hookimpl
    def odd(register: RegisterConnector) -> None:
        raise RuntimeError("no luck")

    @hookimpl
    def guard(action: str) -> None: ...

    broken = plugin("odd", hub_register_connectors=odd, hub_before_effect=guard)
    loaded = load_plugins(quarantine=True, extra=[broken])
    assert loaded.manager.hook.hub_before_effect.get_hookimpls() == []


def test_a_wrapper_around_other_plugins_is_refused() -> None:
    @hookimpl(wrapper=True)
    def around(action: str) -> Any:
        return (yield)

    with pytest.raises(ConfigError, match="plugin odd: hub_after_effect is a wrapper around other plugins"):
        load_plugins(extra=[plugin("odd", hub_after_effect=around)])


def test_a_failure_that_comes_again_and_again_is_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    @hookimpl
    def odd(action: str) -> None:
        raise RuntimeError("no luck")

    async def ask() -> None:
        for _ in range(50):
            await loaded.notify("hub_after_effect", limit_s=5, action="a.b", run_id="r", outcome="done")

    loaded = load_plugins(extra=[plugin("odd", hub_after_effect=odd)])
    try:
        asyncio.run(ask())
    finally:
        loaded.close()
    [told] = [record for record in caplog.records if getattr(record, "what", "") == "hook_failed"]
    assert (vars(told)["plugin"], "RuntimeError" in vars(told)["error"]) == ("odd", True)


def test_a_plugin_that_logs_without_end_fills_no_disk() -> None:
    spare = Sparing(most=10)

    def lines(thread: str) -> int:
        record = logging.LogRecord("odd", logging.INFO, "f", 1, "and on", (), None)
        record.threadName = thread
        return sum(spare.filter(record) for _ in range(100))

    assert lines("plugin odd") == 10
    assert lines("MainThread") == 100


def test_the_specs_are_documented_and_known_to_pluggy() -> None:
    from hub import hookspecs

    manager = pluggy.PluginManager("hub")
    manager.add_hookspecs(hookspecs)
    names = [n for n in vars(hookspecs) if n.startswith("hub_")]
    assert len(names) <= 10
    for name in names:
        assert hasattr(manager.hook, name)
        assert len((getattr(hookspecs, name).__doc__ or "").split()) > 15


def test_a_delivery_s_parse_gives_none_for_a_topic_nobody_takes() -> None:
    from hub import InboundRequest

    delivery = Delivery(InboundRequest("POST", "https://h/x", {}, b"{}"), "acme", "c", "a", "nothing", 0)
    assert acme_plugin.acme.parse(delivery) is None
