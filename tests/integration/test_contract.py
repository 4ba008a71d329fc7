"""The contract of every connector: one that keeps it passes, and whoever does not is found out and told what to mend."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
from aiohttp import web
from pydantic import BaseModel, ConfigDict, model_validator

from hub import (
    ActionContext,
    Connector,
    Effect,
    Hmac,
    Identity,
    InboundRequest,
    Message,
    NotFound,
    OAuth2,
    OutcomeUnknown,
    PayloadError,
    Rejected,
    Response,
    RetryableError,
    SignatureError,
    SkipStep,
    Subscription,
    Webhook,
)
from hub.clock import Clock
from hub.connector import sandbox_secret
from hub.errors import HubError
from hub.testing.context import sandbox_context
from hub.testing.contract import Contract, prove_effect_class
from hub.testing.sandbox import SandboxServer
from tests import acme as acme_plugin
from tests import club as club_plugin
from tests import parcel
from tests.acme import acme
from tests.parcel import Label

NOTE = {"key": "a", "text": "b"}
INPUTS: dict[str, dict[str, Any]] = {
    "send_text": {"to": "+14155550100", "body": "Hello"},
    "put_note": NOTE,
    "add_keyed": NOTE,
    "charge": NOTE,
    "add_members": {"audience": "vip", "email": "jane@example.com"},
    "remove_members": {"audience": "vip", "email": "jane@example.com"},
}


class TestParcel(Contract):
    """A connector that keeps it, as a plugin would write it."""

    connector = parcel.whole()
    settings = {"account": "main"}
    inputs = {"label": {"to": "jane@example.com"}}
    fixtures = parcel.FIXTURES


# -- the suite itself --------------------------------------------------------------------------------------------------


def test_a_connector_that_keeps_it_is_asked_everything() -> None:
    asked = {name for name in dir(Contract) if name.startswith("test_")}
    assert asked == {name for name in dir(TestParcel) if name.startswith("test_") and getattr(TestParcel, name)}
    assert len(asked) == 35


def test_what_a_connector_does_not_have_is_not_asked() -> None:
    connector = parcel.make(webhook=None)
    parcel.add_action(connector)
    suite = type(parcel.suite(connector))
    left = {name for name in dir(suite) if name.startswith("test_") and getattr(suite, name)}
    absent = ("call", "poll", "sample", "past", "choices")
    assert not [name for name in left if any(word in name for word in absent)]
    assert "test_an_action_runs_against_the_sandbox" in left


def test_a_trigger_that_comes_by_a_poll_alone_is_asked_for_its_sample_and_not_for_calls() -> None:
    connector = parcel.make()
    parcel.add_trigger(connector, topic=())
    suite = parcel.suite(connector)
    suite.test_the_sample_of_a_trigger_parses("sent")
    suite.test_a_field_that_nobody_knows_is_ignored("sent")
    left = {name for name in dir(type(suite)) if name.startswith("test_") and getattr(type(suite), name)}
    assert not [name for name in left if name.startswith("test_a_call_")]


# -- what is declared --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"senders": ("too",)}, "parcel.label is sent by too, which is no field of its input; did you mean to?"),
        ({"default_senders": ("owner",)}, "parcel.label is sent by owner, which is no field of a connection"),
    ],
)
def test_a_sender_that_is_no_field_is_found_with_the_nearest(given: dict[str, tuple[str, ...]], message: str) -> None:
    connector = parcel.make()
    parcel.add_action(connector, message=Message(channel="email", to=lambda label: label.to, **given))
    check = parcel.suite(connector).test_who_sends_a_message_is_said_in_fields_that_are_there
    parcel.refused(message, check)


def test_a_scope_that_nobody_is_asked_for_is_found_with_the_nearest() -> None:
    kind = OAuth2(headers=dict, authorise_url=lambda f: "", token_url=lambda f: "", scopes=("labels.write",))
    connector = parcel.make(auth=[kind])
    parcel.add_action(connector, scopes=["labels.wriet"])
    check = parcel.suite(connector).test_every_declared_scope_is_known
    parcel.refused("label needs the scope labels.wriet, which parcel never asks for; did you mean labels.write?", check)


def test_a_signing_secret_that_cannot_be_given_is_found() -> None:
    connector = parcel.make(webhook=Hmac(header="X-Signature", secret="web_secret"))
    check = parcel.suite(connector).test_every_secret_that_signs_is_a_secret_field
    parcel.refused(r"verified by web_secret, and .* did you mean webhook_secret\?", check)


# -- what comes in -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sample", "content", "said"),
    [
        ("sent.json", '{"id": "p-1"}', r"fixture .*sent.json .* at email: field required; add it to the file, or make"),
        ("sent.json", '{"id": 1, "email": "a@b.example"}', r"at id: input should be a valid string; mend the value"),
        (
            "sent.json",
            '{"id": "p-1",\n oops}',
            r"sent.json does not parse as parcel.sent: .* line 2 column 2.*mend the",
        ),
        ("missing.json", None, r"there is no fixture .*missing.json: put a body there"),
        (
            "x.delivery.json",
            '{"topic": "sent"}',
            r"x.delivery.json must be an object with the body as `json` or `text`",
        ),
        ("x.delivery.json", '{"topic": "gone", "json": {}}', r"has the topic gone, and the trigger takes sent"),
    ],
)
def test_a_fixture_that_does_not_parse_is_named_with_the_place_and_the_mend(
    sample: str, content: str | None, said: str, tmp_path: Path
) -> None:
    # given
    if content is not None:
        (tmp_path / sample).write_text(content)
    connector = parcel.make()
    parcel.add_trigger(connector, sample=sample)

    # when, then
    parcel.refused(said, parcel.suite(connector, fixtures=tmp_path).test_the_sample_of_a_trigger_parses, "sent")


def test_a_trigger_without_a_sample_is_told_where_to_put_one() -> None:
    connector = parcel.make()
    parcel.add_trigger(connector, sample=None)
    check = parcel.suite(connector).test_the_sample_of_a_trigger_parses
    parcel.refused(r'parcel.sent has no sample: put .* sample="sent.json"', check, "sent")


def test_a_captured_delivery_is_a_sample_as_good_as_a_bare_body(tmp_path: Path) -> None:
    found = {"topic": "sent", "headers": {"X-More": "1"}, "json": {"id": "p-1", "email": "jane@example.com"}}
    (tmp_path / "sent.delivery.json").write_text(json.dumps(found))
    connector = parcel.make()
    parcel.add_trigger(connector, sample="sent.delivery.json")
    suite = parcel.suite(connector, fixtures=tmp_path)
    suite.test_the_sample_of_a_trigger_parses("sent")
    suite.test_a_call_that_comes_again_makes_no_second_event("sent")


def test_a_payload_that_allows_no_new_field_is_found() -> None:
    class Strict(BaseModel):
        model_config = ConfigDict(extra="forbid")
        id: str
        email: str

    connector = parcel.make()
    parcel.add_trigger(connector, payload=Strict)
    check = parcel.suite(connector).test_a_field_that_nobody_knows_is_ignored
    parcel.refused("refuses a call for a field it does not know.*let Strict ignore other fields", check, "sent")


class Open(Webhook):
    """One that believes everybody."""

    secrets = ("webhook_secret",)

    def verify(self, request: InboundRequest, secrets: Mapping[str, str]) -> None:
        return

    def topic(self, request: InboundRequest) -> str:
        return "sent"


class Stumbling(Hmac):
    """One that does not expect a call without its header."""

    def verify(self, request: InboundRequest, secrets: Mapping[str, str]) -> None:
        assert len(request.headers["x-signature"]) > 1
        super().verify(request, secrets)


class Telling(Hmac):
    """One that repeats the secret in its refusal."""

    def verify(self, request: InboundRequest, secrets: Mapping[str, str]) -> None:
        try:
            super().verify(request, secrets)
        except HubError as error:
            raise type(error)(f"expected {secrets}") from error


@pytest.mark.parametrize(
    ("webhook", "said"),
    [
        (Open(), "takes a call whose body was changed"),
        (Stumbling(header="X-Signature", topic="X-Topic"), "raises KeyError for a call without a signature"),
        (Telling(header="X-Signature", topic="X-Topic"), "the refusal of a call .* holds a secret"),
    ],
)
def test_a_webhook_that_believes_or_tells_too_much_is_found(webhook: Webhook, said: str) -> None:
    connector = parcel.make(webhook=webhook)
    parcel.add_trigger(connector)
    suite = parcel.suite(connector, **({"sign": lambda self, call: {}} if isinstance(webhook, Open) else {}))
    parcel.refused(said, suite.test_a_call_is_taken_when_its_signature_is_good_and_refused_when_it_is_not, "sent")


def test_a_webhook_that_the_contract_cannot_sign_for_says_what_to_give() -> None:
    connector = parcel.make(webhook=Open())
    parcel.add_trigger(connector)
    check = parcel.suite(connector).test_the_sample_of_a_trigger_parses
    parcel.refused(
        r"cannot sign like Parcel, whose webhook is no Hmac: give your contract a method `sign", check, "sent"
    )


def test_a_fact_that_differs_each_time_is_found() -> None:
    told = iter(range(100))
    connector = parcel.make()
    parcel.add_trigger(connector, fact=lambda sent: f"{sent.id}:{next(told)}")
    check = parcel.suite(connector).test_a_call_of_a_doubled_subscription_makes_no_second_event
    parcel.refused("makes a second event of the same fact under another delivery id: let `fact`", check, "sent")


def test_without_a_delivery_id_a_replay_is_only_told_by_its_fact() -> None:
    told = iter(range(100))
    connector = parcel.make(webhook=Hmac(header="X-Signature", topic="X-Topic"))
    parcel.add_trigger(connector, fact=lambda sent: f"{sent.id}:{next(told)}")
    check = parcel.suite(connector).test_a_call_that_comes_again_makes_no_second_event
    parcel.refused("makes a second event of the same delivery", check, "sent")


class Timeless(Hmac):
    """One that signs the time and does not look at it."""

    def verify(self, request: InboundRequest, secrets: Mapping[str, str]) -> None:
        super().verify(replace(request, received_at_ms=int(request.headers["x-time"]) * 1000), secrets)


class Choosy(Hmac):
    """One that takes no kind of call but those it knows."""

    def verify(self, request: InboundRequest, secrets: Mapping[str, str]) -> None:
        super().verify(request, secrets)
        if self.topic(request) != "sent":
            raise SignatureError("what is that?")


class Breaking(Hmac):
    """One that cannot tell the kind of every call."""

    def topic(self, request: InboundRequest) -> str:
        return {"sent": "sent"}[super().topic(request)]


class Deaf(Hmac):
    """One to which every call is of the same kind."""

    def topic(self, request: InboundRequest) -> str:
        return "sent"


def _hearing(webhook: Hmac, **changed: Any) -> Any:
    connector = parcel.make(webhook=webhook)
    parcel.add_trigger(connector, **changed)
    return parcel.suite(connector)


def test_a_call_that_was_signed_long_ago_and_is_taken_is_found() -> None:
    check = _hearing(Timeless(header="X-Signature", topic="X-Topic", timestamp="X-Time"))
    parcel.refused("takes a call that was signed a day ago", check.test_a_call_signed_long_ago_is_refused, "sent")


def test_a_webhook_that_signs_no_time_is_not_asked_about_its_age() -> None:
    assert _hearing(Hmac(header="X-Signature", topic="X-Topic")).test_a_call_signed_long_ago_is_refused is None


class Guessed(BaseModel):
    """Something, whatever came."""

    id: str = "1"


@pytest.mark.parametrize(
    ("suite", "said"),
    [
        (_hearing(Choosy(header="X-Signature", topic="X-Topic")), "refuses a signed call of a kind .* what is that"),
        (_hearing(Breaking(header="X-Signature", topic="X-Topic")), "cannot read a call of a kind .* KeyError"),
        (_hearing(Deaf(header="X-Signature", topic="X-Topic"), payload=Guessed), "makes an event of a call of a kind"),
    ],
)
def test_a_call_of_an_unknown_kind_that_is_refused_or_believed_is_found(suite: Any, said: str) -> None:
    parcel.refused(said, suite.test_a_call_of_an_unknown_kind_is_kept_and_makes_no_event)


def test_a_call_of_an_unknown_kind_may_be_told_by_its_body() -> None:
    _hearing(Deaf(header="X-Signature", topic="X-Topic")).test_a_call_of_an_unknown_kind_is_kept_and_makes_no_event()


class Blurting(BaseModel):
    """A payload that repeats what it does not understand."""

    id: str
    email: str

    @model_validator(mode="before")
    @classmethod
    def _blurt(cls, value: Any) -> Any:
        if not isinstance(value["id"], str):
            raise PayloadError(f"cannot read {value}")
        return value


def test_a_note_about_a_call_that_names_somebody_is_found() -> None:
    suite = _hearing(
        Hmac(header="X-Signature", topic="X-Topic"), payload=Blurting, subject=lambda sent: Identity(email=sent.email)
    )
    parcel.refused(
        "a note about a call of sent holds somebody's address", suite.test_a_call_tells_nobody_of_whom_it_is, "sent"
    )


# -- what goes out -----------------------------------------------------------------------------------------------------


def _acting(run: Any = None, **changed: Any) -> Any:
    connector = parcel.make(**{name: changed.pop(name) for name in list(changed) if hasattr(Connector, name)})
    parcel.add_action(connector, run, **changed)
    return parcel.suite(connector)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"inputs": {}}, r'no input for parcel.label: add one to `inputs`, such as {"label"'),
        ({"inputs": {"label": {"too": 1}}}, "the contract's input for parcel.label does not fit: to: field required"),
    ],
)
def test_an_input_that_is_missing_or_wrong_is_named(changed: dict[str, Any], said: str) -> None:
    connector = parcel.make()
    parcel.add_action(connector)
    parcel.refused(said, parcel.suite(connector, **changed).test_an_action_runs_against_the_sandbox, "label")


def test_a_connector_without_a_sandbox_is_told_to_write_one() -> None:
    check = _acting(sandbox=None).test_an_action_runs_against_the_sandbox
    parcel.refused("parcel declares no sandbox: write one", check, "label")


async def _asks_elsewhere(ctx: ActionContext, input: Label) -> Label:
    await ctx.http.request("PUT", "/nowhere", json={})
    return input


async def _answers_otherwise(ctx: ActionContext, input: Label) -> Any:
    return {"to": input.to}


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (_asks_elsewhere, "fails on the sandbox with NotFound.*Let the sandbox answer as the vendor does"),
        (_answers_otherwise, "parcel.label returns dict, not its Label"),
    ],
)
def test_an_action_that_the_sandbox_cannot_do_is_found(run: Any, said: str) -> None:
    parcel.refused(said, _acting(run).test_an_action_runs_against_the_sandbox, "label")


@pytest.mark.parametrize(
    ("simulate", "said"),
    [
        (lambda label, now_ms: {"to": label.to}, "the simulation of parcel.label returns dict, not its Label"),
        (
            lambda label, now_ms: Label(to=os.urandom(8).hex()),
            "the simulation of parcel.label is not the same each time",
        ),
    ],
)
def test_an_action_that_cannot_be_rehearsed_is_found(simulate: Any, said: str) -> None:
    suite = _acting()
    suite.connector.actions["label"].simulate(simulate)
    parcel.refused(said, suite.test_an_action_can_be_rehearsed, "label")


def test_a_sandbox_that_lets_everybody_in_is_found() -> None:
    check = _acting(sandbox="tests.parcel:Trusting").test_the_sandbox_refuses_wrong_credentials
    parcel.refused("carries label out with wrong credentials: let it compare", check, "label")


async def _swallows(ctx: ActionContext, input: Label) -> Label:
    with suppress(HubError):
        await ctx.http.request("PUT", "/labels", json=input.model_dump())
    return input


async def _raises_its_own(ctx: ActionContext, input: Label) -> Label:
    try:
        await ctx.http.request("PUT", "/labels", json=input.model_dump())
    except HubError as error:
        raise ValueError("no") from error
    return input


@pytest.mark.parametrize(
    ("suite", "said"),
    [
        (_acting(_swallows), "401 must raise AuthExpired, and it returned as if it had been done; 403 must"),
        (_acting(_raises_its_own), "500 must raise OutcomeUnknown, and it raised ValueError"),
        (_acting(_answers_otherwise), "made no call that could be answered 401"),
        (
            _acting(classify=lambda answer: RetryableError() if answer.status == 429 else None),
            "429 must raise RateLimited, and it raised RetryableError",
        ),
        (_acting(sandbox="tests.parcel:Empty"), "answers when `throttled` must raise RateLimited, and it returned"),
    ],
)
def test_an_error_that_is_mistaken_for_another_is_found(suite: Any, said: str) -> None:
    parcel.refused(said, suite.test_each_error_of_the_vendor_is_told_by_its_kind, "label")


def test_a_connector_may_say_that_a_status_means_something_else() -> None:
    async def skips(ctx: ActionContext, input: Label) -> Label:
        try:
            return Label.model_validate((await ctx.http.request("PUT", "/labels", json=input.model_dump())).json())
        except HubError as error:
            if getattr(error, "status", None) == 404:
                raise SkipStep("already_done") from error
            raise

    connector = parcel.make()
    parcel.add_action(connector, skips)
    parcel.suite(connector, errors={404: SkipStep}).test_each_error_of_the_vendor_is_told_by_its_kind("label")


async def _logs(ctx: ActionContext, input: Label) -> Label:
    logging.getLogger("hub_parcel").debug("calling with %s", vars(ctx.http)["credentials"])
    await ctx.http.request("PUT", "/labels", json=input.model_dump())
    return input


async def _returns_it(ctx: ActionContext, input: Label) -> Label:
    await ctx.http.request("PUT", "/labels", json=input.model_dump())
    return Label(to=vars(ctx.http)["credentials"]["token"])


@pytest.mark.parametrize(
    ("run", "said"), [(_logs, "a log line of parcel.label holds"), (_returns_it, "the output of parcel.label holds")]
)
def test_a_secret_that_is_told_is_found(run: Any, said: str) -> None:
    parcel.refused(said, _acting(run).test_no_secret_is_told, "label")


def _repeats(answer: Response) -> HubError | None:
    if answer.status != 422:
        return None
    error = answer.json()["error"] if answer.body else "no"
    return Rejected(f"Parcel says {error}")


async def _logs_whom(ctx: ActionContext, input: Label) -> Label:
    logging.getLogger("hub_parcel").info("a label", extra={"what": "labelled", "to": input.to})
    return Label.model_validate((await ctx.http.request("PUT", "/labels", json=input.model_dump())).json())


@pytest.mark.parametrize(
    ("suite", "said"),
    [
        (_acting(classify=_repeats), "the error of a 422 of parcel.label holds somebody's address: say which field"),
        (_acting(_logs_whom), "a log line of parcel.label holds somebody's address"),
    ],
)
def test_an_error_or_a_log_line_that_names_somebody_is_found(suite: Any, said: str) -> None:
    parcel.refused(said, suite.test_no_error_or_log_tells_whom_it_is_about, "label")


def test_an_action_that_gives_up_when_it_is_throttled_is_found() -> None:
    suite = _acting(classify=lambda answer: Rejected("no") if answer.status == 429 else None)
    check = suite.test_an_action_that_is_throttled_is_done_in_the_end
    parcel.refused("label must be done after the vendor asked for fewer calls, and is failed: no; let", check, "label")


@pytest.mark.parametrize(
    ("suite", "said"),
    [
        (
            _acting(classify=lambda answer: Rejected("no") if answer.status == 401 else None),
            "token by client_credentials was not renewed after parcel.label was answered 401",
        ),
        (_acting(sandbox="tests.parcel:Stubborn"), "parcel.label must be done with the renewed token of client_creden"),
    ],
)
def test_a_token_that_is_not_renewed_or_not_taken_is_found(suite: Any, said: str) -> None:
    parcel.refused(said, suite.test_a_token_that_ends_is_renewed_and_the_action_done, "client_credentials")


def _club(sandbox: str = "tests.club:ClubSandbox") -> Any:
    connector = replace(club_plugin.club, sandbox=sandbox)
    given = {"connector": connector, "inputs": {"greet": {"who": "Jane"}}}
    return type("TestClub", (Contract,), given)()


def test_a_token_of_an_account_that_is_authorised_in_the_browser_is_renewed() -> None:
    _club().test_a_token_that_ends_is_renewed_and_the_action_done("oauth2")


@pytest.mark.parametrize(
    ("sandbox", "said"),
    [
        (
            "tests.club:Closed",
            "club's sandbox has no page at which generated can be authorised: include hub.testing.oauth",
        ),
        ("tests.club:Endless", "club's token by oauth2 was not renewed after club.greet was answered 401"),
    ],
)
def test_a_sandbox_that_authorises_nobody_or_renews_nothing_is_found(sandbox: str, said: str) -> None:
    parcel.refused(said, _club(sandbox).test_a_token_that_ends_is_renewed_and_the_action_done, "oauth2")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (sandbox_secret("parcel", "main", "token"), "the dry-run text of parcel.label holds a secret"),
        ("one\ntwo", "several lines"),
        ("", "is empty"),
    ],
)
def test_a_dry_run_text_that_says_too_much_or_nothing_is_found(line: str, said: str) -> None:
    suite = _acting()
    suite.connector.actions["label"].describe(lambda label: line)
    parcel.refused(said, suite.test_no_secret_is_told, "label")


# -- subscriptions -----------------------------------------------------------------------------------------------------


class Pretending(parcel.Hooks):
    async def create(self, ctx: ActionContext, topic: str, address: str) -> Subscription:
        return Subscription("h-0", topic, address)


class Expiring(parcel.Hooks):
    async def list(self, ctx: ActionContext) -> Sequence[Subscription]:
        return [replace(one, expires_at_ms=1) for one in await super().list(ctx)]


class Misnaming(parcel.Hooks):
    async def create(self, ctx: ActionContext, topic: str, address: str) -> Subscription:
        return replace(await super().create(ctx, topic, address), topic=topic.upper())


class Keeping(parcel.Hooks):
    async def delete(self, ctx: ActionContext, subscription: Subscription) -> None:
        return


class Strict(parcel.Hooks):
    async def delete(self, ctx: ActionContext, subscription: Subscription) -> None:
        if subscription.id not in {one.id for one in await self.list(ctx)}:
            raise NotFound
        await super().delete(ctx, subscription)


class Blind(parcel.Hooks):
    async def list(self, ctx: ActionContext) -> Sequence[Subscription]:
        return [one for one in await super().list(ctx) if "/webhooks/" in one.address]


class Sweeping(parcel.Hooks):
    async def create(self, ctx: ActionContext, topic: str, address: str) -> Subscription:
        for one in await self.list(ctx):
            if one.topic == topic:
                await self.delete(ctx, one)
        return await super().create(ctx, topic, address)


class Secretive(parcel.Hooks):
    secret_field = "webhook_secret"


class Untold(parcel.Hooks):
    secret_field = "hook_secrets"


MISSING = "test_subscriptions_that_are_missing_are_made"
SPARE = "test_subscriptions_that_are_doubled_or_orphaned_are_deleted"
FOREIGN = "test_subscriptions_that_lead_elsewhere_are_left_alone"
SECRETS = "test_subscriptions_keep_their_secrets_where_calls_are_verified"


@pytest.mark.parametrize(
    ("kept", "test", "said"),
    [
        (Pretending(), MISSING, "parcel's sent must be subscribed to, and is not"),
        (Misnaming(), MISSING, "have a problem: sent: a subscription to sent came back as one to SENT"),
        (Expiring(), MISSING, r"parcel's sent is \w+ at every look \(.*\): let `list` tell"),
        (Secretive(), MISSING, "the vendor tells no secret of sent; mend the plugin's `create`"),
        (Keeping(), SPARE, "parcel's sent is subscribed to more than once: mend `delete`"),
        (Strict(), SPARE, "`delete` of a subscription that is gone raises NotFound; that is no error: return"),
        (Blind(), FOREIGN, "leads elsewhere is not listed at the first look: let `list` tell of all"),
        (Sweeping(), FOREIGN, "leads elsewhere is not listed at the first look"),
        (Untold(), SECRETS, "keep their secrets in hook_secrets, which is no secret field: add Field"),
    ],
)
def test_subscriptions_that_are_not_kept_as_declared_are_found(kept: parcel.Hooks, test: str, said: str) -> None:
    parcel.refused(said, getattr(parcel.suite(parcel.whole(subscriptions=kept)), test))


def test_an_account_that_holds_nothing_that_leads_elsewhere_is_not_asked_about_it() -> None:
    assert getattr(parcel.suite(parcel.whole(subscriptions=Sweeping()), elsewhere=False), FOREIGN) is None


# -- effect classes ----------------------------------------------------------------------------------------------------


async def _prove(action: str) -> None:
    await prove_effect_class(acme, action, INPUTS[action], settings={"account": "main"}, extra=[acme_plugin])


@pytest.mark.parametrize("action", acme.actions)
async def test_an_action_s_effect_class_holds(action: str) -> None:
    await _prove(action)


def test_an_action_that_declares_none_is_at_most_once() -> None:
    assert acme.actions["charge"].effect is Effect.AT_MOST_ONCE


async def _found_always(ctx: object, input: object) -> acme_plugin.Sent:
    return acme_plugin.Sent(message_id="somebody else's")


async def _found_never(ctx: object, input: object) -> None:
    return None


@pytest.mark.parametrize(
    ("action", "declared", "said"),
    [
        ("charge", {"effect": Effect.KEYED, "key_window_s": 3600}, "it must happen once, and happened 2 times"),
        ("send_text", {"lookup_": _found_never}, "it must happen once, and happened 2 times"),
        ("send_text", {"lookup_": _found_always}, "it must happen once, and happened 0 times"),
    ],
)
async def test_a_class_that_does_not_hold_is_found_out(
    monkeypatch: pytest.MonkeyPatch, action: str, declared: dict[str, Any], said: str
) -> None:
    monkeypatch.setitem(acme.actions, action, replace(acme.actions[action], **declared))
    with pytest.raises(AssertionError, match=said):
        await _prove(action)


class Asking(parcel.ParcelSandbox):
    """One whose questions are no GET, as those of GraphQL."""

    async def only_reads(self, request: web.Request) -> bool:
        return request.query.get("what") == "question" or await super().only_reads(request)


async def _only_asks(ctx: ActionContext, input: Label) -> Label:
    await ctx.http.request("PUT", "/labels?what=question", json={"to": "somebody"})
    return input


async def _asks_first(ctx: ActionContext, input: Label) -> Label:
    await _only_asks(ctx, input)
    return Label.model_validate((await ctx.http.request("PUT", "/labels", json=input.model_dump())).json())


async def _never_calls(ctx: ActionContext, input: Label) -> Label:
    raise SkipStep("nothing to do")


async def test_faults_break_what_changes_something_and_not_the_question_before_it() -> None:
    connector = parcel.make()
    parcel.add_action(connector, _asks_first)
    sandbox = Asking(Clock())
    async with (
        SandboxServer({"parcel": sandbox}) as server,
        sandbox_context(connector, server.url, {"account": "main"}) as ctx,
    ):
        sandbox.drop_answers = 1
        with pytest.raises(OutcomeUnknown):
            await connector.actions["label"].run(ctx, Label(to="Jane"))
    assert [entry.data["to"] for entry in sandbox.log] == ["somebody", "Jane"]


async def test_the_context_of_a_token_that_is_exchanged_has_the_one_that_the_sandbox_derives() -> None:
    sandbox = club_plugin.ClubSandbox(Clock())
    async with (
        SandboxServer({"club": sandbox}) as server,
        sandbox_context(club_plugin.club, server.url, {}) as ctx,
    ):
        await club_plugin.greet.run(ctx, club_plugin.Greeting(who="Jane"))
    assert [entry.operation for entry in sandbox.log] == ["greet"]


@pytest.mark.parametrize("lost", ["answer", "request"])
async def test_an_action_that_only_asks_keeps_its_class(lost: Literal["answer", "request"]) -> None:
    connector = parcel.make()
    parcel.add_action(connector, _reads)
    await prove_effect_class(connector, "label", {"to": "Jane"}, settings={"account": "main"}, losses=[lost])


async def test_an_action_that_never_calls_is_found() -> None:
    connector = parcel.make()
    parcel.add_action(connector, _never_calls)
    with pytest.raises(AssertionError, match="made no call that could be cut off"):
        await prove_effect_class(connector, "label", {"to": "Jane"}, settings={"account": "main"})


async def _reads(ctx: ActionContext, input: Label) -> Label:
    await ctx.http.request("GET", "/sent")
    return input
