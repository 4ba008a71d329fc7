"""The contract of every connector: one that keeps it passes, and whoever does not is found out and told what to mend."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, model_validator

from hub import (
    ActionContext,
    AuthExpired,
    Choice,
    ChoicePage,
    ChoiceQuery,
    Chosen,
    Connector,
    Effect,
    Hmac,
    Identity,
    InboundRequest,
    NotFound,
    OAuth2,
    OutcomeUnknown,
    Page,
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
    assert len(asked) == 34


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


def _refused(said: str, check: Callable[..., None], *arguments: str) -> None:
    with pytest.raises(AssertionError, match=said):
        check(*arguments)


def test_a_scope_that_nobody_is_asked_for_is_found_with_the_nearest() -> None:
    kind = OAuth2(headers=dict, authorise_url=lambda f: "", token_url=lambda f: "", scopes=("labels.write",))
    connector = parcel.make(auth=[kind])
    parcel.add_action(connector, scopes=["labels.wriet"])
    check = parcel.suite(connector).test_every_declared_scope_is_known
    _refused("label needs the scope labels.wriet, which parcel never asks for; did you mean labels.write?", check)


def test_a_signing_secret_that_cannot_be_given_is_found() -> None:
    connector = parcel.make(webhook=Hmac(header="X-Signature", secret="web_secret"))
    check = parcel.suite(connector).test_every_secret_that_signs_is_a_secret_field
    _refused(r"verified by web_secret, and .* did you mean webhook_secret\?", check)


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
    _refused(said, parcel.suite(connector, fixtures=tmp_path).test_the_sample_of_a_trigger_parses, "sent")


def test_a_trigger_without_a_sample_is_told_where_to_put_one() -> None:
    connector = parcel.make()
    parcel.add_trigger(connector, sample=None)
    check = parcel.suite(connector).test_the_sample_of_a_trigger_parses
    _refused(r'parcel.sent has no sample: put .* sample="sent.json"', check, "sent")


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
    _refused("refuses a call for a field it does not know.*let Strict ignore other fields", check, "sent")


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
    _refused(said, suite.test_a_call_is_taken_when_its_signature_is_good_and_refused_when_it_is_not, "sent")


def test_a_webhook_that_the_contract_cannot_sign_for_says_what_to_give() -> None:
    connector = parcel.make(webhook=Open())
    parcel.add_trigger(connector)
    check = parcel.suite(connector).test_the_sample_of_a_trigger_parses
    _refused(r"cannot sign like Parcel, whose webhook is no Hmac: give your contract a method `sign", check, "sent")


def test_a_fact_that_differs_each_time_is_found() -> None:
    told = iter(range(100))
    connector = parcel.make()
    parcel.add_trigger(connector, fact=lambda sent: f"{sent.id}:{next(told)}")
    check = parcel.suite(connector).test_a_call_of_a_doubled_subscription_makes_no_second_event
    _refused("makes a second event of the same fact under another delivery id: let `fact`", check, "sent")


def test_without_a_delivery_id_a_replay_is_only_told_by_its_fact() -> None:
    told = iter(range(100))
    connector = parcel.make(webhook=Hmac(header="X-Signature", topic="X-Topic"))
    parcel.add_trigger(connector, fact=lambda sent: f"{sent.id}:{next(told)}")
    check = parcel.suite(connector).test_a_call_that_comes_again_makes_no_second_event
    _refused("makes a second event of the same delivery", check, "sent")


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
    _refused("takes a call that was signed a day ago", check.test_a_call_signed_long_ago_is_refused, "sent")


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
    _refused(said, suite.test_a_call_of_an_unknown_kind_is_kept_and_makes_no_event)


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
    _refused(
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
    _refused(said, parcel.suite(connector, **changed).test_an_action_runs_against_the_sandbox, "label")


def test_a_connector_without_a_sandbox_is_told_to_write_one() -> None:
    check = _acting(sandbox=None).test_an_action_runs_against_the_sandbox
    _refused("parcel declares no sandbox: write one", check, "label")


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
    _refused(said, _acting(run).test_an_action_runs_against_the_sandbox, "label")


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
    _refused(said, suite.test_an_action_can_be_rehearsed, "label")


def test_a_sandbox_that_lets_everybody_in_is_found() -> None:
    check = _acting(sandbox="tests.parcel:Trusting").test_the_sandbox_refuses_wrong_credentials
    _refused("carries label out with wrong credentials: let it compare", check, "label")


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
    _refused(said, suite.test_each_error_of_the_vendor_is_told_by_its_kind, "label")


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
    _refused(said, _acting(run).test_no_secret_is_told, "label")


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
    _refused(said, suite.test_no_error_or_log_tells_whom_it_is_about, "label")


def test_an_action_that_gives_up_when_it_is_throttled_is_found() -> None:
    suite = _acting(classify=lambda answer: Rejected("no") if answer.status == 429 else None)
    check = suite.test_an_action_that_is_throttled_is_done_in_the_end
    _refused("label must be done after the vendor asked for fewer calls, and is failed: no; let", check, "label")


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
    _refused(said, suite.test_a_token_that_ends_is_renewed_and_the_action_done, "client_credentials")


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
    _refused(said, _club(sandbox).test_a_token_that_ends_is_renewed_and_the_action_done, "oauth2")


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
    _refused(said, suite.test_no_secret_is_told, "label")


# -- polls -------------------------------------------------------------------------------------------------------------


async def _endless(ctx: ActionContext, cursor: str | None, since_ms: int) -> AsyncIterator[Page[parcel.Sent]]:
    while True:
        yield Page([], "on")


@pytest.mark.parametrize(
    ("sandbox", "fetch", "said"),
    [
        ("tests.parcel:Empty", None, "finds nothing at the sandbox: let `prepare`"),
        ("tests.parcel:ParcelSandbox", _endless, "the poll of parcel.sent does not end"),
    ],
)
def test_a_poll_that_finds_nothing_or_never_ends_is_found(sandbox: str, fetch: Any, said: str) -> None:
    connector = parcel.make(sandbox=sandbox)
    parcel.add_trigger(connector)
    parcel.add_poll(connector, fetch)
    _refused(said, parcel.suite(connector).test_a_poll_finds_the_same_facts_again, "sent")


async def _asked_once(ctx: ActionContext, cursor: str | None, since_ms: int) -> AsyncIterator[Page[parcel.Sent]]:
    answer = (await ctx.http.request("GET", "/queue")).json()
    yield Page([parcel.Sent.model_validate(one) for one in answer], "end")


def test_a_poll_that_takes_what_it_reads_away_is_found() -> None:
    connector = parcel.make(sandbox="tests.parcel:Queueing")
    parcel.add_trigger(connector)
    parcel.add_poll(connector, _asked_once)
    check = parcel.suite(connector).test_a_poll_that_breaks_off_loses_and_doubles_nothing
    _refused("the poll of parcel.sent loses 1 of 1 when it breaks off with a page in hand: let it keep", check, "sent")


def test_a_poll_whose_facts_differ_doubles_them() -> None:
    told = iter(range(100))
    connector = parcel.make()
    parcel.add_trigger(connector, fact=lambda sent: f"{sent.id}:{next(told)}")
    parcel.add_poll(connector)
    check = parcel.suite(connector).test_a_poll_that_breaks_off_loses_and_doubles_nothing
    _refused("makes [23] events of 1 facts when a page comes again", check, "sent")


# -- the past ----------------------------------------------------------------------------------------------------------

BROKEN_OFF = "test_a_past_that_breaks_off_is_gone_on_with_and_nothing_lost_or_doubled"
PAGE_BY_PAGE = "test_a_past_that_is_read_page_by_page_comes_to_its_end"
THROTTLED = "test_a_past_that_is_throttled_is_read_to_its_end"
BEGINNING = "test_a_past_begins_where_it_is_asked_to"


def _remembering(fetch: Any = None, **changed: Any) -> Any:
    connector = parcel.make()
    parcel.add_trigger(connector, **{"occurred_at": lambda sent: sent.at, **changed})
    parcel.add_history(connector, fetch)
    return parcel.suite(connector)


async def _nothing(ctx: ActionContext, cursor: str | None, since_ms: int) -> AsyncIterator[Page[parcel.Sent]]:
    yield Page([], "end")


async def _from_the_start(ctx: ActionContext, cursor: str | None, since_ms: int) -> AsyncIterator[Page[parcel.Sent]]:
    async for page in parcel.past(ctx, None, since_ms):
        yield page


def _keeping() -> Any:
    """One that goes on where it was itself, whatever was stored."""
    kept: list[str | None] = [None]

    async def fetch(ctx: ActionContext, cursor: str | None, since_ms: int) -> AsyncIterator[Page[parcel.Sent]]:
        async for page in parcel.past(ctx, cursor and kept[0], since_ms):
            kept[0] = page.cursor
            yield page

    return fetch


async def _half(ctx: ActionContext, cursor: str | None, since_ms: int) -> AsyncIterator[Page[parcel.Sent]]:
    """One that cannot be gone on with."""
    if cursor is None:
        async for page in parcel.past(ctx, None, since_ms):
            yield page


async def _gives_up(ctx: ActionContext, cursor: str | None, since_ms: int) -> AsyncIterator[Page[parcel.Sent]]:
    with suppress(RetryableError):
        async for page in parcel.past(ctx, cursor, since_ms):
            yield page


def _sulking() -> Any:
    """One that will not try again."""
    sulks: list[RetryableError] = []

    async def fetch(ctx: ActionContext, cursor: str | None, since_ms: int) -> AsyncIterator[Page[parcel.Sent]]:
        if sulks:
            raise Rejected("no")
        try:
            async for page in parcel.past(ctx, cursor, since_ms):
                yield page
        except RetryableError as error:
            sulks.append(error)
            raise

    return fetch


async def _from_memory(ctx: ActionContext, cursor: str | None, since_ms: int) -> AsyncIterator[Page[parcel.Sent]]:
    yield Page([parcel.Sent.model_validate(one) for one in parcel.PAST], "end")


async def _everything(ctx: ActionContext, cursor: str | None, since_ms: int) -> AsyncIterator[Page[parcel.Sent]]:
    async for page in parcel.past(ctx, cursor, 0):
        yield page


@pytest.mark.parametrize(
    ("fetch", "test", "said"),
    [
        (_nothing, BROKEN_OFF, "the past of parcel.sent is empty at the sandbox: let `prepare`"),
        (_endless, BROKEN_OFF, "the past of parcel.sent does not end"),
        (_from_the_start, BROKEN_OFF, "the past of parcel.sent begins anew when it breaks off"),
        (_keeping(), BROKEN_OFF, "makes 1 events of 2 facts when it breaks off: let it keep nothing but"),
        (_from_the_start, PAGE_BY_PAGE, "does not get on when it is cut off after each page: let the cursor"),
        (_half, PAGE_BY_PAGE, "tells 1 of 2 facts when it is cut off after each page: let it keep nothing but"),
        (_gives_up, THROTTLED, "makes 0 events of 2 facts when it is throttled: let it .* leave errors to the hub"),
        (_sulking(), THROTTLED, r"is not read to its end when it is throttled: it is waiting \(no\)"),
        (_from_memory, THROTTLED, "the past of parcel.sent made no call that could be throttled"),
        (_everything, BEGINNING, "tells of what happened before it is asked to begin: leave out"),
    ],
)
def test_a_past_that_is_not_read_as_asked_is_found(fetch: Any, test: str, said: str) -> None:
    _refused(said, getattr(_remembering(fetch), test), "sent")


def test_a_past_whose_facts_differ_is_found() -> None:
    told = iter(range(100))
    check = getattr(_remembering(fact=lambda sent: f"{sent.id}:{next(told)}"), BROKEN_OFF)
    _refused("the past of parcel.sent has other facts when it is read again", check, "sent")


# -- choices -----------------------------------------------------------------------------------------------------------

TO_THE_END = "test_choices_are_told_to_the_end_and_each_once"
BY_LABEL = "test_choices_are_found_by_their_label_and_no_other_label_is_taken"
THOUGH_IT_ENDS = "test_choices_are_told_though_the_token_ends"
DISCREET = "test_choices_tell_no_secret_and_nobody_who_is_searched_for"


def _offering(read: Any, **changed: Any) -> Any:
    connector = parcel.make(**changed)
    parcel.add_choices(connector, read)
    return parcel.suite(connector)


def _all_of(*labels: str) -> list[Choice]:
    return [Choice(f"d-{n}", label) for n, label in enumerate(labels, 1)]


async def _without_end(ctx: ActionContext, query: ChoiceQuery) -> ChoicePage:
    return ChoicePage([], "on")


async def _again_and_again(ctx: ActionContext, query: ChoiceQuery) -> ChoicePage:
    return replace(await parcel.depots(ctx, replace(query, cursor=None)), cursor=None if query.cursor else "1")


async def _bare(ctx: ActionContext, query: ChoiceQuery) -> ChoicePage:
    return ChoicePage(_all_of("North", ""))


async def _none(ctx: ActionContext, query: ChoiceQuery) -> ChoicePage:
    return ChoicePage([])


async def _deaf(ctx: ActionContext, query: ChoiceQuery) -> ChoicePage:
    return ChoicePage([one for one in _all_of("North", "South") if query.search in one.id])


async def _obliging(ctx: ActionContext, query: ChoiceQuery) -> ChoicePage:
    there = [one for one in _all_of("North") if query.search.lower() in one.label.lower()]
    return ChoicePage(there or [Choice(query.search, query.search)])


async def _many_and_obliging(ctx: ActionContext, query: ChoiceQuery) -> ChoicePage:
    """More than the hub reads, and whatever is searched for."""
    page = int(query.cursor or 0)
    some = [Choice(f"d-{page}-{n}", f"Depot {page}-{n}") for n in range(100)]
    if query.search:
        return ChoicePage([one for one in some if one.label == query.search] or [Choice("d", query.search)])
    return ChoicePage(some, str(page + 1) if page < 20 else None)


def _restless() -> Any:
    """One whose labels change."""
    told = iter(range(100))

    async def read(ctx: ActionContext, query: ChoiceQuery) -> ChoicePage:
        return ChoicePage(_all_of(f"North, asked for {next(told)} times"))

    return read


async def _empty_handed(ctx: ActionContext, query: ChoiceQuery) -> ChoicePage:
    try:
        return await parcel.depots(ctx, query)
    except AuthExpired:
        return ChoicePage([])


async def _with_the_key(ctx: ActionContext, query: ChoiceQuery) -> ChoicePage:
    return ChoicePage([Choice("d-1", "North", vars(ctx.http)["credentials"]["token"])])


async def _overheard(ctx: ActionContext, query: ChoiceQuery) -> ChoicePage:
    logging.getLogger("hub_parcel").info("a search", extra={"what": "searched", "search": query.search})
    return await parcel.depots(ctx, query)


async def _repeated(ctx: ActionContext, query: ChoiceQuery) -> ChoicePage:
    try:
        return await parcel.depots(ctx, query)
    except HubError as error:
        raise Rejected(f"cannot search for {query.search}") from error


@pytest.mark.parametrize(
    ("read", "test", "said"),
    [
        (_without_end, TO_THE_END, "parcel's depots do not end: give no cursor with the last page"),
        (_again_and_again, TO_THE_END, "parcel's depots tell of d-1 more than once: let a page begin"),
        (_bare, TO_THE_END, "one of parcel's depots has no id or no label"),
        (_none, TO_THE_END, "there are none of parcel's depots at the sandbox: let `prepare`"),
        (_deaf, BY_LABEL, "are searched for North, and d-1 is not found: search all that is shown"),
        (_obliging, BY_LABEL, "have whatever they are searched for: tell only what the vendor has"),
        (_many_and_obliging, BY_LABEL, "writes what none of parcel's depots is called is not refused"),
        (_restless(), BY_LABEL, "a recipe that writes North, .* gets None, and not d-1: let labels stay"),
        (_empty_handed, THOUGH_IT_ENDS, "are others once the token of client_credentials was renewed in the middle"),
        (_with_the_key, DISCREET, "what is told of parcel's depots holds a secret"),
        (_overheard, DISCREET, "a log line of parcel's depots repeats what was searched for"),
        (_repeated, DISCREET, "an error of parcel's depots repeats what was searched for"),
    ],
)
def test_choices_that_are_not_told_as_asked_are_found(read: Any, test: str, said: str) -> None:
    _refused(said, getattr(_offering(read), test), "depots")


@pytest.mark.parametrize(
    ("kinds", "said"),
    [
        (slice(None), "must be told with the renewed token of client_credentials, and raised Rejected"),
        (slice(1), "must raise AuthExpired when the credentials are refused, and raised Rejected"),
    ],
)
def test_choices_that_take_an_ended_token_for_something_else_are_found(kinds: slice, said: str) -> None:
    def classify(answer: Response) -> HubError | None:
        return Rejected("no") if answer.status == 401 else None

    suite = _offering(None, auth=parcel.make().auth[kinds], classify=classify)
    _refused(said, getattr(suite, THOUGH_IT_ENDS), "depots")


async def _of_a_region(ctx: ActionContext, query: ChoiceQuery) -> ChoicePage:
    if query.within.get("region") != "sea":
        raise Rejected("say which region")
    return await parcel.depots(ctx, query)


class Regional(Label):
    region: str
    depot: Annotated[str, Chosen("depots", within=("region",))] | None = None


class Numbered(Label):
    depot: Annotated[str, Chosen("depots"), Field(pattern="^d-[0-9]+$")] | None = None


class Chained(Label):
    routes: list[parcel.Routed] = []


def test_a_field_that_takes_no_label_is_found_and_one_in_a_list_of_models_is_asked() -> None:
    strict, nested = parcel.make(), parcel.make()
    for connector, input_ in ((strict, Numbered), (nested, Chained)):
        connector.choose("depots")(parcel.depots)
        parcel.add_action(connector, input=input_)
    _refused("label.depot takes no label of parcel's depots", getattr(parcel.suite(strict), BY_LABEL), "depots")
    getattr(parcel.suite(nested), BY_LABEL)("depots")


@pytest.mark.parametrize("test", [TO_THE_END, BY_LABEL, THOUGH_IT_ENDS, DISCREET])
def test_what_choices_depend_on_is_said_by_an_input_or_by_the_suite(test: str) -> None:
    connector = parcel.make()
    connector.choose("depots")(_of_a_region)
    # of an action's own choices its input says it
    given = {"inputs": {"label": {"to": "Jane", "region": "sea"}}}
    acting = parcel.make()
    acting.choose("depots")(_of_a_region)
    parcel.add_action(acting, input=Regional)
    getattr(parcel.suite(acting, **given), test)("depots")
    _refused(
        "depend on what no input of the contract names: say so by `within`",
        getattr(parcel.suite(acting), test),
        "depots",
    )
    # of those that no action takes, the suite
    getattr(parcel.suite(connector, within={"depots": {"region": "sea"}}), test)("depots")


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
    _refused(said, getattr(parcel.suite(parcel.whole(subscriptions=kept)), test))


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
        ("charge", {"effect": Effect.KEYED}, "it must happen once, and happened 2 times"),
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
