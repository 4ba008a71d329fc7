"""One call of an action on a sandbox connection: what it would say, what it asked the vendor, what came back.

Nothing of it is stored, and consent, caps and pauses are not asked: no person is reached.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, cast
from urllib.parse import urlsplit

import aiohttp
from pydantic import BaseModel, ValidationError

from hub.backoff import GIVE_UP_MS
from hub.catalogue import nearest
from hub.cli.entry import current_settings, open_existing_store, require_database
from hub.clock import Clock, format_duration
from hub.connections import Connection, Connections
from hub.connector import Action, ActionContext, Connector, Effect, Response
from hub.errors import (
    AuthExpired,
    ConfigError,
    ConnectorError,
    NotThere,
    PermanentError,
    RateLimited,
    RetryableError,
    SkipStep,
)
from hub.events import Json
from hub.http import ConnectionHttp
from hub.ids import idempotency_key, new_id, reference
from hub.misfits import unprefixed
from hub.plugins import Plugins, load_plugins
from hub.process import Hub, open_hub
from hub.runs.hand import say
from hub.testing.sandbox import SandboxServer, load_sandbox
from hub.vault import make_vault

_LOOK_S = 2.0


@dataclass
class Trial:
    """What came of it. `then` says what would happen to a run: done, skipped, retried, waits, given up or unknown."""

    action: str
    connection: str
    would: str
    then: str = "done"
    because: str = ""
    answer: Json = None
    calls: list[dict[str, Json]] = field(default_factory=list)
    duration_ms: int = 0
    own_sandbox: bool = False
    """Whether a sandbox was started for this one call, which knows nothing of what happened in another."""


async def try_action(name: str, connection: str, input: Callable[[], Json]) -> Trial:
    """Make the call; `input` is asked for once the names are known to be right.

    Raises NotThere for a name, ConfigError for whatever else is wrong before it is made.
    """
    settings = current_settings()
    require_database(settings)
    plugins, clock = load_plugins(quarantine=True), Clock()
    action = _action(plugins, name)
    async with open_existing_store() as store:
        known = Connections(store, make_vault(settings), plugins.catalogue, clock)
        _require_sandbox(await known.by_name(connection), action)
    checked = _checked(action, input())
    async with _sandbox(plugins, clock, action.connector, settings.sandbox_url) as (url, is_own):
        led = settings.model_copy(update={"sandbox_url": url})
        async with open_hub(led, plugins=plugins, clock=clock, pool=2) as hub:
            found = await hub.connections.by_name(connection)
            trial = Trial(name, connection, "", own_sandbox=is_own)
            await _call(hub, found, action, checked, trial)
            return trial


def _action(plugins: Plugins, name: str) -> Action[Any, Any]:
    action = plugins.catalogue.action(name)
    if action is None:
        connector = name.partition(".")[0]
        unusable = plugins.catalogue.unusable.get(connector)
        if unusable is not None:
            raise ConfigError(unusable)
        raise NotThere(
            f"there is no action {name}{nearest(name, plugins.catalogue.actions())}; `hub plugins` lists them"
        )
    return action


def _require_sandbox(connection: Connection, action: Action[Any, Any]) -> None:
    if connection.connector != action.connector:
        raise ConfigError(f"{connection.name} is a connection of {connection.connector}, not of {action.connector}")
    if not connection.sandbox:
        raise ConfigError(
            f"{connection.name} is a live connection, and an action is tried on sandboxes only: add one with "
            f"`hub connections add {connection.connector} NAME --sandbox`"
        )


def _checked(action: Action[Any, Any], input: Json) -> BaseModel:
    """The input as the action takes it. Raises ConfigError naming each field that is wrong, with the nearest right name."""
    fields = action.input.model_fields
    known = [*fields, *(f.alias for f in fields.values() if f.alias)]
    if not isinstance(input, dict):
        raise ConfigError(f"the input of {action.type} is a JSON object with {', '.join(known) or 'no fields'}")
    wrong = [
        f"there is no field {name}{nearest(name, known)}; it has {', '.join(known) or 'none'}"
        for name in input
        if name not in known and action.input.model_config.get("extra") != "allow"
    ]
    try:
        made: BaseModel = action.input.model_validate(input)
    except ValidationError as error:
        for one in error.errors(include_input=False, include_url=False):
            place = ".".join(map(str, one["loc"])) or "the whole"
            if one["type"] != "extra_forbidden":
                wrong.append(f"{place}: {unprefixed(one['msg']).lower()}")
    if wrong:
        raise ConfigError(f"the input does not fit {action.type}: {'; '.join(wrong)}")
    return made


# -- the sandbox -------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _sandbox(plugins: Plugins, clock: Clock, connector: str, url: str | None) -> AsyncIterator[tuple[str, bool]]:
    """The address of a server with the connector's sandbox: the one that runs, else one of this call's own."""
    if url is not None and await _answers(f"{url.rstrip('/')}/{connector}/_sandbox/log"):
        yield url, False
        return
    sandbox = load_sandbox(plugins.catalogue.connectors[connector], clock)
    if sandbox is None:
        raise ConfigError(f"{connector} has no sandbox, so its actions cannot be tried")
    async with SandboxServer({connector: sandbox}) as server:
        yield server.url, True


async def _answers(url: str) -> bool:
    limit = aiohttp.ClientTimeout(total=_LOOK_S)
    try:
        async with aiohttp.ClientSession(timeout=limit) as session, session.get(url) as answer:
            return answer.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False


# -- the call ----------------------------------------------------------------------------------------------------------


async def _call(hub: Hub, connection: Connection, action: Action[Any, Any], input: BaseModel, trial: Trial) -> None:
    key, began = f"try:{new_id()}", time.monotonic()
    hide: Callable[[str], str] = str
    try:
        ctx = await hub.connections.context(
            connection,
            reference=reference(key),
            idempotency_key=idempotency_key(key),
            intended_at_ms=hub.clock.now_ms(),
            total_s=action.timeout_s,
        )
        ctx, hide = _noting(ctx, trial.calls)
        trial.would = hide(action.dry_run(input))
        began = time.monotonic()
        output = await action.run(ctx, input)
        trial.answer = _hidden(output.model_dump(mode="json"), hide)
    except ConfigError:
        raise
    except Exception as error:  # a plugin may raise anything; it is shown as what a run would make of it
        trial.then, words = _after(error, action)
        trial.because = hide(f"{type(error).__name__}: {say(error).rstrip('.')}. {words}")
    trial.duration_ms = round((time.monotonic() - began) * 1000)


def _after(error: Exception, action: Action[Any, Any]) -> tuple[str, str]:
    """What a run makes of an error: in one word, and in a sentence."""
    match error:
        case SkipStep():
            return "skipped", "A run would go on: nothing was done and nothing should be."
        case AuthExpired():
            return "waits", (
                "A token is renewed once where it can be; else the connection's runs wait for `hub connections reauthorise`."
            )
        case RateLimited():
            after = f"{error.retry_after_s:g} s" if error.retry_after_s is not None else "a while"
            return "retried", f"All runs of the connection would wait {after} and try again."
        case RetryableError():
            return "retried", f"A run would try again, later and later, for up to {format_duration(GIVE_UP_MS)}."
        case PermanentError():
            return "given up", "The step would fail; `on_error` of the recipe says what follows."
    return {
        Effect.AT_MOST_ONCE: ("unknown", "It may have been done; `on_unknown` of the recipe says what follows."),
        Effect.RECONCILABLE: (
            "retried",
            "It may have been done; a run would look it up, and ask again if it is absent.",
        ),
        Effect.IDEMPOTENT: ("retried", "It may have been done; a run would ask again, for the action is idempotent."),
        Effect.KEYED: ("retried", "It may have been done; a run would ask again with the same key."),
    }[action.effect]


def _noting(ctx: ActionContext, calls: list[dict[str, Json]]) -> tuple[ActionContext, Callable[[str], str]]:
    """The same context, its calls noted; and what takes the connection's secrets out of a text."""
    http = cast("ConnectionHttp", ctx.http)  # the hub's own contexts have no other
    app = cast("ConnectionHttp | None", ctx.app_http)
    known = {**http.credentials, **(app.credentials if app else {})}
    secrets = sorted((v for n, v in known.items() if n not in ctx.settings and v), key=len, reverse=True)

    def hide(text: str) -> str:
        for secret in secrets:
            text = text.replace(secret, "***")
        return text

    app_noting = _Noting(app, calls, hide) if app else None
    return replace(ctx, http=_Noting(http, calls, hide), app_http=app_noting), hide


@dataclass
class _Noting:
    """The connection's way out, with each call noted: method, path without its query, and status."""

    http: ConnectionHttp
    calls: list[dict[str, Json]]
    hide: Callable[[str], str]

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        json: Json = None,
        form: Mapping[str, str] | Sequence[tuple[str, str]] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        connector: Connector = self.http.connector
        whole = path if path.startswith("https://") else connector.base_url(self.http.credentials) + path
        noted: dict[str, Json] = {"method": method, "path": self.hide(urlsplit(whole).path), "status": None}
        self.calls.append(noted)
        try:
            answer = await self.http.request(method, path, params=params, json=json, form=form, headers=headers)
        except ConnectorError as error:
            noted["status"] = error.status
            raise
        noted["status"] = answer.status
        return answer


def _hidden(value: Json, hide: Callable[[str], str]) -> Json:
    if isinstance(value, dict):
        return {name: _hidden(one, hide) for name, one in value.items()}
    if isinstance(value, list):
        return [_hidden(one, hide) for one in value]
    return hide(value) if isinstance(value, str) else value
