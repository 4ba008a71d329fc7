"""What a connector declares: how to authorise, how to recognise a call, what can happen, what can be done.

Everything here is a declaration. Who keeps the promises (verifies, stores, retries, limits, reconciles) is the core;
connector authors never compare signatures by hand, refresh tokens or sleep on a 429.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from hub.connector.actions import Action, Batch, Effect, Message, Run, RunBatch
from hub.connector.auth import (
    CLIENT_FIELDS,
    TOKEN_FIELDS,
    Auth,
    ClientCredentials,
    Field,
    Headers,
    OAuth2,
    Params,
    StaticToken,
    sandbox_secret,
)
from hub.connector.calls import (
    Account,
    ActionContext,
    ApiVersions,
    Budget,
    Concurrency,
    Credential,
    Http,
    Rate,
    Response,
    Throttle,
)
from hub.connector.choices import Choice, ChoicePage, ChoiceQuery, Chosen, ReadChoices
from hub.connector.triggers import (
    History,
    Page,
    Parse,
    Poll,
    Privacy,
    Quiet,
    Subscription,
    Subscriptions,
    Trigger,
    secrets_in,
)
from hub.connector.webhook import Delivery, Hmac, InboundRequest, Reply, Webhook, same
from hub.errors import ConnectorError, PayloadError, PluginError
from hub.events import ConsentSignal, Event, Identity, Json
from hub.misfits import misfits

__all__ = [
    "CLIENT_FIELDS",
    "TOKEN_FIELDS",
    "Account",
    "Action",
    "ActionContext",
    "ApiVersions",
    "Auth",
    "Batch",
    "Budget",
    "Choice",
    "ChoicePage",
    "ChoiceQuery",
    "Chosen",
    "ClientCredentials",
    "Concurrency",
    "Connector",
    "Credential",
    "Delivery",
    "Effect",
    "Field",
    "Headers",
    "History",
    "Hmac",
    "Http",
    "InboundRequest",
    "Message",
    "OAuth2",
    "Page",
    "Params",
    "Poll",
    "Privacy",
    "Quiet",
    "Rate",
    "ReadChoices",
    "Reply",
    "Response",
    "StaticToken",
    "Subscription",
    "Subscriptions",
    "Throttle",
    "Trigger",
    "Webhook",
    "same",
    "sandbox_secret",
    "secrets_in",
]

P = TypeVar("P", bound=BaseModel)
I = TypeVar("I", bound=BaseModel)  # noqa: E741  (input and output read best as I and O)
O = TypeVar("O", bound=BaseModel)  # noqa: E741

Classify = Callable[[Response], ConnectorError | Exception | None]
ReadThrottle = Callable[[Response], Throttle | None]
Forget = Callable[[ActionContext, Identity], Awaitable[None]]


@dataclass(kw_only=True)
class Connector:
    """A plugin's description of one vendor. Register it with `hub_register_connectors`.

    `base_url` builds the address of calls from a connection's fields; the result and every other URL must lie on one of
    `hosts` (`*.` stands for one label or more). `account` tells the account id from the fields, so that deliveries find
    their connection. `classify` turns an answer into an error where the shared status table is not enough.
    `sandbox` names the class of the vendor's stand-in: `package.module:Class`.
    """

    name: str
    title: str
    hosts: Sequence[str]
    base_url: Callable[[Mapping[str, str]], str]
    account: Callable[[Mapping[str, str]], str]
    auth: Sequence[Auth]
    app_auth: StaticToken | None = None
    """How the app itself is authorised, where the vendor wants that for some calls: `ctx.app_http` makes them.

    Its functions get the connection's fields together with those of its app; `fields` are those of them that it needs.
    """
    fields: Sequence[Field] = ()
    """Fields that every kind of auth needs, such as the shop's domain or a webhook secret."""
    webhook: Webhook | None = None
    budgets: Sequence[Budget] = ()
    classify: Classify | None = None
    throttle: ReadThrottle | None = None
    """What an answer says about the rates, also one that is an error; None when it says nothing. Pure."""
    subscriptions: Subscriptions | None = None
    whoami: Callable[[ActionContext], Awaitable[Account]] | None = None
    sandbox: str | None = None
    lacks: Mapping[str, str] = field(default_factory=dict)
    """Capabilities it does not provide, or only in part: name to what is missing, and what to connect instead."""
    versions: ApiVersions | None = None
    triggers: dict[str, Trigger[Any]] = field(default_factory=dict)
    actions: dict[str, Action[Any, Any]] = field(default_factory=dict)
    polls: dict[str, Poll[Any]] = field(default_factory=dict)
    histories: dict[str, History[Any]] = field(default_factory=dict)
    choices: dict[str, ReadChoices] = field(default_factory=dict)
    forget_: Forget | None = None

    def trigger(
        self,
        name: str,
        *,
        payload: type[P],
        fact: Callable[[P], str],
        title: str = "",
        topic: str | Sequence[str] = (),
        sample: str | None = None,
        subject: Callable[[P], Identity] | None = None,
        occurred_at: Callable[[P], Any] | None = None,
        correlate: Sequence[str] = (),
        consent: Callable[[P], Iterable[ConsentSignal]] | None = None,
        account: Callable[[P], str] | None = None,
        cause: Callable[[P], str | None] | None = None,
        provides: str | None = None,
        scopes: Sequence[str] = (),
        always: bool = False,
        privacy: Privacy | None = None,
        ends_access: bool = False,
    ) -> Callable[[Parse[P]], Trigger[P]]:
        """Decorator: declare a trigger; the function turns a delivery of its topics into payloads (none: not mine)."""

        def declare(parse: Parse[P]) -> Trigger[P]:
            trigger = Trigger(
                connector=self.name,
                name=name,
                title=title or _first_line(parse) or name,
                payload=payload,
                fact=fact,
                topics=(topic,) if isinstance(topic, str) else tuple(topic),
                sample=sample,
                subject=subject,
                occurred_at=occurred_at,
                correlate=tuple(correlate),
                consent=consent,
                account=account,
                cause=cause,
                provides=provides,
                scopes=tuple(scopes),
                always=always or privacy is not None or ends_access,
                privacy=privacy,
                ends_access=ends_access,
                parse=parse,
            )
            self.triggers[name] = trigger
            return trigger

        return declare

    def quiet_trigger(
        self,
        name: str,
        *,
        payload: type[P],
        fact: Callable[[P], str],
        source: Sequence[str],
        cancel: Sequence[str] = (),
        key: Callable[[Mapping[str, Json]], str | None],
        after_s: int,
        title: str = "",
        subject: Callable[[P], Identity] | None = None,
        correlate: Sequence[str] = (),
        provides: str | None = None,
        scopes: Sequence[str] = (),
    ) -> Trigger[P]:
        """Declare a trigger that fires after silence (see `Quiet`); its payload model is the source's."""
        trigger = Trigger(
            connector=self.name,
            name=name,
            title=title or name,
            payload=payload,
            fact=fact,
            subject=subject,
            correlate=tuple(correlate),
            provides=provides,
            scopes=tuple(scopes),
            quiet=Quiet(source=tuple(source), cancel=tuple(cancel), key=key, after_s=after_s),
        )
        self.triggers[name] = trigger
        return trigger

    def poll(
        self, trigger: str, *, every_s: int, overlap_s: int, cost: int = 1, draws: Mapping[str, int] | None = None
    ) -> Callable[[Callable[[ActionContext, str | None, int], AsyncIterator[Page[P]]]], Poll[P]]:
        """Decorator: declare the poll of a trigger; the async generator yields pages, oldest first."""

        def declare(fetch: Callable[[ActionContext, str | None, int], AsyncIterator[Page[P]]]) -> Poll[P]:
            poll = Poll(
                trigger=trigger, every_s=every_s, overlap_s=overlap_s, cost=cost, draws=draws or {}, fetch=fetch
            )
            self.polls[trigger] = poll
            return poll

        return declare

    def history(
        self, trigger: str
    ) -> Callable[[Callable[[ActionContext, str | None, int], AsyncIterator[Page[P]]]], History[P]]:
        """Decorator: declare how a trigger's past is read; the async generator yields pages, in any order that resumes."""

        def declare(fetch: Callable[[ActionContext, str | None, int], AsyncIterator[Page[P]]]) -> History[P]:
            history = History(trigger=trigger, fetch=fetch)
            self.histories[trigger] = history
            return history

        return declare

    def choose(self, name: str) -> Callable[[ReadChoices], ReadChoices]:
        """Decorator: declare how the choices of this name are read; fields of inputs refer to them by `Chosen(name)`."""

        def declare(read: ReadChoices) -> ReadChoices:
            self.choices[name] = read
            return read

        return declare

    def forget(self, function: Forget) -> Forget:
        """Decorator: take a person out of every audience and list at the vendor, idempotently.

        Called for each connection when the person is erased, and when they withdraw their consent to marketing.
        """
        self.forget_ = function
        return function

    def action(
        self,
        name: str,
        *,
        input: type[I],
        output: type[O],
        title: str = "",
        effect: Effect = Effect.AT_MOST_ONCE,
        key_window_s: float | None = None,
        message: Message[I] | None = None,
        provides: str | None = None,
        scopes: Sequence[str] = (),
        cost: int = 1,
        draws: Mapping[str, int] | None = None,
        lookup_draws: Mapping[str, int] | None = None,
        units: Mapping[str, Callable[[I], int]] | None = None,
        timeout_s: float = 20.0,
    ) -> Callable[[Run[I, O]], Action[I, O]]:
        """Decorator: declare an action; the function makes the call and returns the output."""

        def declare(run: Run[I, O]) -> Action[I, O]:
            action = Action(
                connector=self.name,
                name=name,
                title=title or _first_line(run) or name,
                input=input,
                output=output,
                run=run,
                effect=effect,
                key_window_s=key_window_s,
                message=message,
                provides=provides,
                scopes=tuple(scopes),
                cost=cost,
                draws=draws or {},
                lookup_draws=lookup_draws or {},
                units=units or {},
                timeout_s=timeout_s,
            )
            self.actions[name] = action
            return action

        return declare

    def batch_action(
        self,
        name: str,
        *,
        input: type[I],
        output: type[O],
        batch: Batch[I],
        title: str = "",
        effect: Effect = Effect.AT_MOST_ONCE,
        key_window_s: float | None = None,
        provides: str | None = None,
        scopes: Sequence[str] = (),
        cost: int = 1,
        units: Mapping[str, Callable[[I], int]] | None = None,
        timeout_s: float = 20.0,
    ) -> Callable[[RunBatch[I, O]], Action[I, O]]:
        """Decorator: declare an action that is done for many inputs in one call.

        The function gets up to `batch.size` inputs of one group, oldest first, and returns for each, in order, its output
        or the ConnectorError it failed with. A call that is repeated gets exactly the same inputs. Batches are no messages
        to people and cannot be reconcilable.
        """
        if effect is Effect.RECONCILABLE:
            raise PluginError(self.name, f"the batch action {name} cannot be reconcilable; make it idempotent or keyed")
        if batch.together and (batch.together not in self.actions or self.actions[batch.together].batch is None):
            raise PluginError(
                self.name, f"{name} goes together with {batch.together}: declare that as a batch action before it"
            )

        def declare(run_batch: RunBatch[I, O]) -> Action[I, O]:
            async def run_one(ctx: ActionContext, input: I) -> O:
                [answer] = await run_batch(ctx, [input])
                if isinstance(answer, ConnectorError):
                    raise answer
                return answer

            action = Action(
                connector=self.name,
                name=name,
                title=title or _first_line(run_batch) or name,
                input=input,
                output=output,
                run=run_one,
                effect=effect,
                key_window_s=key_window_s,
                batch=batch,
                provides=provides,
                scopes=tuple(scopes),
                cost=cost,
                units=units or {},
                timeout_s=timeout_s,
                run_batch=run_batch,
            )
            self.actions[name] = action
            return action

        return declare

    def parse(self, delivery: Delivery) -> list[Event] | None:
        """All events in a delivery, or None when no trigger knows its topic. Raises PayloadError."""
        known = [t for t in self.triggers.values() if delivery.topic in t.topics and t.parse is not None]
        if not known:
            return None
        try:
            return [
                trigger.event(payload, delivery.received_at_ms)
                for trigger in known
                for payload in (trigger.parse(delivery) if trigger.parse else ())
            ]
        except PayloadError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            # A pydantic error repeats the input, which may hold personal data: name the fields only.
            raise PayloadError(f"{delivery.topic}: {_describe(error)}") from error


def _describe(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return "; ".join(misfits(error, whole="the whole"))
    return f"{type(error).__name__} while parsing"


def _first_line(function: Callable[..., object]) -> str:
    return (function.__doc__ or "").strip().split("\n")[0].rstrip(".")
