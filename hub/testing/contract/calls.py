"""Calls to the vendor: every action and poll against the sandbox, and what each of the vendor's errors becomes."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from pydantic import BaseModel, ValidationError

from hub.connector import ActionContext
from hub.errors import (
    AuthExpired,
    HubError,
    NotFound,
    NotSent,
    OutcomeUnknown,
    PermanentError,
    RateLimited,
    Rejected,
)
from hub.events import Json
from hub.http import ConnectionHttp, Transport
from hub.misfits import misfits
from hub.process import Hub
from hub.testing.contract.door import secrets_of
from hub.testing.contract.effects import play, prove_effect_class
from hub.testing.contract.stage import NOBODY, hub_of, listening
from hub.testing.sandbox import RETRY_AFTER_S, Sandbox

if TYPE_CHECKING:
    from hub.testing.contract import Contract

EXPECTED: Mapping[int, type[HubError]] = {
    401: AuthExpired,
    403: PermanentError,
    404: NotFound,
    422: Rejected,
    429: RateLimited,
    500: OutcomeUnknown,
}
"""What a status means where a contract's `errors` say nothing else; a class stands for those below it, too."""

_MOST_PAGES = 1000
_REHEARSED_AT_MS = 1_767_603_600_000
_ADDRESS = re.compile(r"[^@\s]+@[^@\s]+\.\w+|\+\d{7,15}")


def input_of(suite: Contract, action: str) -> Mapping[str, Json]:
    """What the suite gives an action. Raises AssertionError where it gives nothing."""
    assert action in suite.inputs, (
        f"the contract has no input for {suite.connector.name}.{action}: add one to `inputs`, such as "
        f'{{"{action}": {{…}}}}'
    )
    return suite.inputs[action]


def _checked(suite: Contract, action: str) -> BaseModel:
    model = suite.connector.actions[action].input
    try:
        made: BaseModel = model.model_validate(input_of(suite, action))
    except ValidationError as error:
        wrong = "; ".join(misfits(error, whole="the whole")).lower()
        raise AssertionError(
            f"the contract's input for {suite.connector.name}.{action} does not fit: {wrong}"
        ) from None
    return made


@dataclass(frozen=True)
class _Caller:
    """Calls one action on the suite's sandbox connection, over the hub's real transport."""

    suite: Contract
    action: str
    hub: Hub
    sandbox: Sandbox

    @property
    def name(self) -> str:
        return f"{self.suite.connector.name}.{self.action}"

    async def context(self) -> ActionContext:
        """What a run would give the action."""
        connection = await self.hub.connections.by_name(self.suite.connector.name)
        return await self.hub.connections.context(
            connection,
            reference="contract-reference",
            idempotency_key="00000000-0000-5000-8000-000000000000",
            intended_at_ms=self.hub.clock.now_ms(),
            total_s=self.suite.connector.actions[self.action].timeout_s,
        )

    async def run(self, ctx: ActionContext) -> BaseModel:
        """The action's own answer."""
        answer: BaseModel = await self.suite.connector.actions[self.action].run(ctx, _checked(self.suite, self.action))
        return answer

    async def error(self, ctx: ActionContext) -> Exception | None:
        """What the action raises; None when it returns."""
        try:
            await self.run(ctx)
        except Exception as error:  # whatever it is, it is what the contract is about
            return error
        return None


@asynccontextmanager
async def _caller(suite: Contract, action: str) -> AsyncIterator[_Caller]:
    input_of(suite, action)
    async with hub_of(suite.connector, suite.settings, suite.extra, prepare=suite.prepare) as (hub, sandbox):
        yield _Caller(suite, action, hub, sandbox)


async def prove_run(suite: Contract, action: str) -> None:
    """An action with the suite's input is carried out by the sandbox, and returns its output model."""
    async with _caller(suite, action) as caller:
        try:
            answer = await caller.run(await caller.context())
        except HubError as error:
            raise AssertionError(
                f"{caller.name} fails on the sandbox with {type(error).__name__}: {error} Let the sandbox answer as the "
                "vendor does, or let `prepare` make what the input names"
            ) from error
    output = suite.connector.actions[action].output
    assert isinstance(answer, output), f"{caller.name} returns {type(answer).__name__}, not its {output.__name__}"


def prove_rehearsal(suite: Contract, action: str) -> None:
    """What a recipe's tests pretend for an action is its output, the same each time."""
    declared, input_ = suite.connector.actions[action], _checked(suite, action)
    pretended, again = (declared.rehearse(input_, _REHEARSED_AT_MS) for _ in range(2))
    assert isinstance(pretended, declared.output), (
        f"the simulation of {declared.type} returns {type(pretended).__name__}, not its {declared.output.__name__}"
    )
    assert pretended == again, (
        f"the simulation of {declared.type} is not the same each time: make it of its input alone"
    )


async def prove_credentials(suite: Contract, action: str) -> None:
    """With other credentials than the connection's the sandbox carries nothing out, and the error says why."""
    connector = suite.connector
    async with _caller(suite, action) as caller:
        ctx = await caller.context()
        http = _http(ctx)
        connection = await caller.hub.connections.by_name(connector.name)
        kind = next(kind for kind in connector.auth if kind.name == connection.auth)
        # All that is no setting is secret, also a token that was exchanged.
        wrong = {n: v if n in connection.settings else "wrong" for n, v in http.credentials.items()}
        known, before = kind.headers(http.credentials), len(caller.sandbox.log)
        assert kind.headers(wrong) != known, f"{connector.name}'s calls carry no credentials; see `headers` of its auth"
        error = await caller.error(replace(ctx, http=replace(http, authorisation=kind.headers(wrong))))
        assert len(caller.sandbox.log) == before, (
            f"{connector.name}'s sandbox carries {action} out with wrong credentials: let it compare them with "
            "`self.secret(account, field)`"
        )
        assert isinstance(error, AuthExpired), (
            f"{caller.name} with wrong credentials must raise AuthExpired, and {came_to(error)}: let the sandbox answer "
            "401, or map the vendor's answer with `classify`"
        )


async def prove_errors(suite: Contract, action: str) -> None:
    """Each error of the vendor becomes what tells the hub what to do next; all that do not are said at once."""
    problems = []
    async with _caller(suite, action) as caller:
        for status, usual in EXPECTED.items():
            expected = suite.errors.get((action, status)) or suite.errors.get(status) or usual
            ctx = await caller.context()
            caller.sandbox.refuse_next = status
            error = await caller.error(ctx)
            if caller.sandbox.refuse_next:
                caller.sandbox.refuse_next = 0
                problems.append(f"it made no call that could be answered {status} ({came_to(error)})")
            elif not isinstance(error, expected):
                problems.append(f"{status} must raise {expected.__name__}, and it {came_to(error)}")
            elif status == 429 and getattr(error, "retry_after_s", RETRY_AFTER_S) != RETRY_AFTER_S:
                problems.append("the Retry-After of a 429 must become the error's retry_after_s")
        problems += await _throttled(caller)
        problems += await _broken(caller)
    assert not problems, f"{caller.name}: {'; '.join(problems)}. Leave errors to `ctx.http`, or mend `classify`"


async def _throttled(caller: _Caller) -> list[str]:
    """What the vendor itself answers when it is called too often."""
    ctx, sandbox = await caller.context(), caller.sandbox
    sandbox.throttle_until_ms = sandbox.clock.now_ms() + 60_000
    error = await caller.error(ctx)
    sandbox.throttle_until_ms = 0
    if isinstance(error, RateLimited):
        return []
    return [f"what the sandbox answers when `throttled` must raise RateLimited, and it {came_to(error)}"]


async def _broken(caller: _Caller) -> list[str]:
    problems = []
    caller.sandbox.drop_requests = 1
    error = await caller.error(await caller.context())
    # One that is left over says that the action only reads.
    if not caller.sandbox.drop_requests and not isinstance(error, OutcomeUnknown):
        problems.append(f"a connection that breaks off must raise OutcomeUnknown, and it {came_to(error)}")
    caller.sandbox.drop_requests = 0
    ctx, nobody = await caller.context(), Transport(sandbox_url=NOBODY)
    try:
        error = await caller.error(replace(ctx, http=replace(_http(ctx), transport=nobody)))
    finally:
        await nobody.close()
    if not isinstance(error, NotSent):
        problems.append(f"a vendor that cannot be reached must raise NotSent, and it {came_to(error)}")
    return problems


async def prove_throttled(suite: Contract, action: str) -> None:
    """An action that the vendor throttles is done once the vendor takes calls again."""
    connector, name = suite.connector, f"{suite.connector.name}.{action}"
    given = {"prepare": suite.prepare, "work": True}
    async with hub_of(connector, suite.settings, suite.extra, **given) as (hub, sandbox):  # type: ignore[arg-type]
        sandbox.throttle_until_ms = hub.clock.now_ms() + 60_000
        recorded = await play(hub, connector, action, input_of(suite, action))
        assert sandbox.refused, f"{name} made no call that could be throttled"
    assert recorded["state"] == "done", (
        f"{name} must be done after the vendor asked for fewer calls, and is {recorded['state']}: {recorded['reason']}; let "
        "what the sandbox answers when `throttled` raise RateLimited"
    )


async def prove_renewal(suite: Contract, kind_name: str) -> None:
    """A token that the vendor refuses in the middle is renewed, and the action is done."""
    connector = suite.connector
    kind = next(kind for kind in connector.auth if kind.name == kind_name)
    action = next(name for name in sorted(connector.actions) if name in suite.inputs)
    given = {"prepare": suite.prepare, "work": True, "auth": kind}
    async with hub_of(connector, suite.settings, suite.extra, **given) as (hub, sandbox):  # type: ignore[arg-type]
        # The first token is there, and not a new one any more.
        await hub.connections.context(await hub.connections.by_name(connector.name))
        connection = await hub.connections.by_name(connector.name)
        hub.connections.tokens.seems_old(connection)
        sandbox.refuse_next = 401
        recorded = await play(hub, connector, action, input_of(suite, action))
        renewed = (await hub.connections.by_name(connector.name)).token_epoch > connection.token_epoch
    name = f"{connector.name}.{action}"
    assert renewed, (
        f"{connector.name}'s token by {kind_name} was not renewed after {name} was answered 401: let that raise AuthExpired, "
        "and let the sandbox give tokens that can be renewed"
    )
    assert recorded["state"] == "done", (
        f"{name} must be done with the renewed token of {kind_name}, and is {recorded['state']}: {recorded['reason']}"
    )


def _http(ctx: ActionContext) -> ConnectionHttp:
    return cast("ConnectionHttp", ctx.http)  # the hub's own contexts have no other


def came_to(error: Exception | None) -> str:
    """What became of a call, as the end of a sentence."""
    return "returned as if it had been done" if error is None else f"raised {type(error).__name__}"


async def prove_effect(suite: Contract, action: str) -> None:
    """The action's effect class holds with the suite's input."""
    await prove_effect_class(
        suite.connector,
        action,
        input_of(suite, action),
        settings=suite.settings,
        prepare=suite.prepare,
        extra=suite.extra,
    )


# -- what must not be told ---------------------------------------------------------------------------------------------


async def prove_discretion(suite: Contract, action: str) -> None:
    """No credential stands in what people, logs or traces are shown of an action, whether it succeeds or fails."""
    texts: dict[str, str] = {}
    with listening() as lines:
        async with _caller(suite, action) as caller:
            ctx = await caller.context()
            secrets = secrets_of(suite) | (set(_http(ctx).credentials.values()) - set(ctx.settings.values()))
            texts["the dry-run text"] = suite.connector.actions[action].dry_run(_checked(suite, action))
            texts["the repr of the context"] = repr(ctx)
            texts["the output"] = repr(await caller.run(ctx))
            for status in EXPECTED:
                caller.sandbox.refuse_next = status
                error = await caller.error(await caller.context())
                texts[f"the error of a {status}"] = f"{error} {error!r} {error.__cause__!r}" if error else ""
    texts["a log line"] = "\n".join(lines)
    for where, text in texts.items():
        assert not any(secret in text for secret in secrets), (
            f"{where} of {caller.name} holds a secret; name the field, never its value"
        )
    dry_run = texts["the dry-run text"]
    assert dry_run.strip(), f"the dry-run text of {caller.name} is empty; say in one line what would be done"
    assert "\n" not in dry_run, f"the dry-run text of {caller.name} has several lines; say it in one"


async def prove_privacy(suite: Contract, action: str) -> None:
    """Nobody's address stands in an error or a log line, also when the vendor's answer repeats it."""
    people = addresses_in(input_of(suite, action))
    name = f"{suite.connector.name}.{action}"
    with listening() as lines:
        async with _caller(suite, action) as caller:
            for shape in ("flat", "nested"):
                for status in (400, *EXPECTED):
                    # Before the fault, for it may ask for a token first.
                    context = await caller.context()
                    caller.sandbox.repeat_next, caller.sandbox.repeat_as = status, shape
                    error = await caller.error(context)
                    caller.sandbox.repeat_next = 0
                    _hold_back(f"{error} {error!r}", people, f"the error of a {status} of {name}")
            await caller.error(await caller.context())
    _hold_back("\n".join(lines), people, f"a log line of {name}")


def addresses_in(value: Json) -> set[str]:
    """The e-mail addresses and phone numbers in some input."""
    if isinstance(value, Mapping):
        return {found for one in value.values() for found in addresses_in(one)}
    if isinstance(value, list | tuple):
        return {found for one in value for found in addresses_in(one)}
    return {value} if isinstance(value, str) and _ADDRESS.fullmatch(value) else set()


def _hold_back(text: str, people: set[str], where: str) -> None:
    assert not any(one in text for one in people), (
        f"{where} holds somebody's address: say which field is wrong, never its value, nor what the vendor said about it"
    )


# -- polls -------------------------------------------------------------------------------------------------------------


async def prove_poll(suite: Contract, name: str) -> None:
    """A poll finds something at the sandbox, and asked again from the start the same facts."""
    connector, poll = suite.connector, suite.connector.polls[name]
    trigger = connector.triggers[name]
    seen: list[set[str]] = []
    async with hub_of(connector, suite.settings, suite.extra, prepare=suite.prepare) as (hub, _):
        for _again in range(2):
            ctx, facts, pages = await hub.connections.context(await hub.connections.by_name(connector.name)), set(), 0
            async for page in poll.fetch(ctx, None, 0):
                pages += 1
                assert pages <= _MOST_PAGES, f"the poll of {trigger.type} does not end; end it at an empty page"
                assert isinstance(page.cursor, str), (
                    f"the cursor of {trigger.type}'s poll must be text, not {page.cursor!r}"
                )
                facts |= {trigger.event(item, hub.clock.now_ms()).fact_id for item in page.items}
            seen.append(facts)
    assert seen[0], (
        f"the poll of {trigger.type} finds nothing at the sandbox: let `prepare` make something happen there"
    )
    assert seen[0] == seen[1], f"the poll of {trigger.type} finds other facts when it is asked again: mend its `fact`"
