"""What every connector must keep to, as a suite of tests: a plugin subclasses `Contract` and says what is its own.

Needs pytest and nothing else of it than that classes are collected. Each failure is a sentence that says what to mend.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from hub.connector import Auth, ClientCredentials, Connector, OAuth2, Trigger
from hub.errors import HubError
from hub.events import Json
from hub.testing.contract import calls, chosen, declared, door, past, polled, subscribed
from hub.testing.contract.door import Call
from hub.testing.contract.effects import prove_effect_class

__all__ = ["Call", "Contract", "prove_effect_class"]


class Contract:
    """The suite of one connector. Subclass it in a test file, under a name that begins with `Test`.

    `settings` are a connection's fields that are not secret, `inputs` what a recipe's `with` would hold for each action.
    `fixtures` is the folder of the triggers' samples, `fixtures` beside the test file unless given. `errors` says where an
    action means something else by a status than the contract does: `{404: SkipStep}`, or `{("find", 404): SkipStep}`.
    `extra` are further plugins that are not installed. `within` says what choices depend on, by their name, where no input
    does: `{"fields": {"list_id": "1"}}`. `elsewhere` False says that an account holds no subscription that
    leads elsewhere, because the vendor has one for all.
    """

    connector: ClassVar[Connector]
    settings: ClassVar[Mapping[str, str]] = {}
    inputs: ClassVar[Mapping[str, Mapping[str, Json]]] = {}
    fixtures: ClassVar[Path | None] = None
    errors: ClassVar[Mapping[int | tuple[str, int], type[HubError]]] = {}
    extra: ClassVar[Sequence[object]] = ()
    within: ClassVar[Mapping[str, Mapping[str, str]]] = {}
    elsewhere: ClassVar[bool] = True

    def prepare(self, sandbox: Any) -> Awaitable[object] | object:  # Any: each plugin knows its own sandbox
        """Make what the actions need be there, before anything is called. Override where they need something."""
        return None

    def sign(self, call: Call) -> Mapping[str, str]:
        """The headers that the vendor would send with a call. Override it for a webhook that is no `Hmac`."""
        return door.signed_by_hmac(self.connector, call)

    # -- what it is run for --------------------------------------------------------------------------------------------

    def __init_subclass__(cls) -> None:
        """Leave out what the connector does not have: nothing is skipped, and nothing passes for nothing."""
        super().__init_subclass__()
        if not hasattr(cls, "connector"):
            return
        connector = cls.connector
        absent = {
            "action": not connector.actions,
            "poll": not connector.polls,
            "history": not connector.histories,
            "choices": not connector.choices,
            "trigger": not _parsed(cls),
            "renewable": not (connector.actions and _renewable(cls)),
        }
        left_out = {
            "test_a_call_": not (connector.webhook and _called(cls)),
            "test_a_call_signed_": not connector.webhook or not door.signs_a_time(cls()),
            "test_subscriptions_": connector.subscriptions is None,
            "test_subscriptions_that_lead_elsewhere_": not cls.elsewhere,
        }
        for name, test in inspect.getmembers(cls, inspect.isfunction):
            needs = inspect.signature(test).parameters
            out = any(absent.get(need, False) for need in needs)
            if out or any(name.startswith(start) for start, is_out in left_out.items() if is_out):
                setattr(cls, name, None)

    def pytest_generate_tests(self, metafunc: Any) -> None:  # Any: pytest is no dependency of the hub
        """One test for each trigger, action, poll, history, kind of choice, or kind of auth that is renewed."""
        connector = self.connector
        for name, all_ in {
            "trigger": _called(type(self)) if _is_of_calls(metafunc.function.__name__) else _parsed(type(self)),
            "action": connector.actions,
            "poll": connector.polls,
            "history": connector.histories,
            "choices": connector.choices,
            "renewable": _renewable(type(self)),
        }.items():
            if name in metafunc.fixturenames:
                metafunc.parametrize(name, sorted(all_))

    # -- what is declared ----------------------------------------------------------------------------------------------

    def test_every_declared_scope_is_known(self) -> None:
        declared.prove_scopes(self.connector)

    def test_subscriptions_keep_their_secrets_where_calls_are_verified(self) -> None:
        declared.prove_subscribed_secrets(self.connector)

    def test_who_sends_a_message_is_said_in_fields_that_are_there(self) -> None:
        declared.prove_senders(self.connector)

    def test_every_secret_that_signs_is_a_secret_field(self) -> None:
        declared.prove_secret_fields(self.connector)

    # -- what comes in -------------------------------------------------------------------------------------------------

    def test_the_sample_of_a_trigger_parses(self, trigger: str) -> None:
        door.prove_sample(self, trigger)

    def test_a_field_that_nobody_knows_is_ignored(self, trigger: str) -> None:
        door.prove_unknown_field(self, trigger)

    def test_a_call_is_taken_when_its_signature_is_good_and_refused_when_it_is_not(self, trigger: str) -> None:
        asyncio.run(door.prove_signature(self, trigger))

    def test_a_call_is_refused_when_no_secret_is_configured(self) -> None:
        asyncio.run(door.prove_missing_secret(self))

    def test_a_call_that_comes_again_makes_no_second_event(self, trigger: str) -> None:
        asyncio.run(door.prove_replay(self, trigger))

    def test_a_call_of_a_doubled_subscription_makes_no_second_event(self, trigger: str) -> None:
        asyncio.run(door.prove_doubled_subscription(self, trigger))

    def test_a_call_signed_long_ago_is_refused(self, trigger: str) -> None:
        asyncio.run(door.prove_stale(self, trigger))

    def test_a_call_of_an_unknown_kind_is_kept_and_makes_no_event(self) -> None:
        asyncio.run(door.prove_unknown_kind(self))

    def test_a_call_tells_nobody_of_whom_it_is(self, trigger: str) -> None:
        asyncio.run(door.prove_privacy(self, trigger))

    def test_a_poll_that_breaks_off_loses_and_doubles_nothing(self, poll: str) -> None:
        asyncio.run(polled.prove_breaking_off(self, poll))

    def test_a_poll_finds_the_same_facts_again(self, poll: str) -> None:
        asyncio.run(calls.prove_poll(self, poll))

    # -- what happened before ------------------------------------------------------------------------------------------

    def test_a_past_that_breaks_off_is_gone_on_with_and_nothing_lost_or_doubled(self, history: str) -> None:
        asyncio.run(past.prove_breaking_off(self, history))

    def test_a_past_that_is_read_page_by_page_comes_to_its_end(self, history: str) -> None:
        asyncio.run(past.prove_page_by_page(self, history))

    def test_a_past_that_is_throttled_is_read_to_its_end(self, history: str) -> None:
        asyncio.run(past.prove_throttled(self, history))

    def test_a_past_begins_where_it_is_asked_to(self, history: str) -> None:
        asyncio.run(past.prove_beginning(self, history))

    # -- what can be chosen --------------------------------------------------------------------------------------------

    def test_choices_are_told_to_the_end_and_each_once(self, choices: str) -> None:
        asyncio.run(chosen.prove_pages(self, choices))

    def test_choices_are_found_by_their_label_and_no_other_label_is_taken(self, choices: str) -> None:
        asyncio.run(chosen.prove_labels(self, choices))

    def test_choices_are_told_though_the_token_ends(self, choices: str) -> None:
        asyncio.run(chosen.prove_expiry(self, choices, self._renewed()))

    def test_choices_tell_no_secret_and_nobody_who_is_searched_for(self, choices: str) -> None:
        asyncio.run(chosen.prove_discretion(self, choices))

    # -- what goes out -------------------------------------------------------------------------------------------------

    def test_an_action_runs_against_the_sandbox(self, action: str) -> None:
        asyncio.run(calls.prove_run(self, action))

    def test_an_action_can_be_rehearsed(self, action: str) -> None:
        calls.prove_rehearsal(self, action)

    def test_the_sandbox_refuses_wrong_credentials(self, action: str) -> None:
        asyncio.run(calls.prove_credentials(self, action))

    def test_each_error_of_the_vendor_is_told_by_its_kind(self, action: str) -> None:
        asyncio.run(calls.prove_errors(self, action))

    def test_the_effect_class_of_an_action_holds(self, action: str) -> None:
        asyncio.run(calls.prove_effect(self, action))

    def test_an_action_that_is_throttled_is_done_in_the_end(self, action: str) -> None:
        asyncio.run(calls.prove_throttled(self, action))

    def test_a_token_that_ends_is_renewed_and_the_action_done(self, renewable: str) -> None:
        asyncio.run(calls.prove_renewal(self, renewable))

    def test_no_error_or_log_tells_whom_it_is_about(self, action: str) -> None:
        asyncio.run(calls.prove_privacy(self, action))

    def test_no_secret_is_told(self, action: str) -> None:
        asyncio.run(calls.prove_discretion(self, action))

    # -- where the vendor is to call -----------------------------------------------------------------------------------

    def test_subscriptions_that_are_missing_are_made(self) -> None:
        asyncio.run(subscribed.prove_missing(self))

    def test_subscriptions_that_are_doubled_or_orphaned_are_deleted(self) -> None:
        asyncio.run(subscribed.prove_spare(self))

    def test_subscriptions_that_lead_elsewhere_are_left_alone(self) -> None:
        asyncio.run(subscribed.prove_foreign(self))

    # -- for the proofs ------------------------------------------------------------------------------------------------

    def folder(self) -> Path:
        """Where the samples are."""
        return self.fixtures or Path(inspect.getfile(type(self))).parent / "fixtures"

    def _renewed(self) -> Auth | None:
        """A kind of auth whose tokens the hub renews; None where there is none, or where this suite says that they never end."""
        asked = getattr(self, "test_a_token_that_ends_is_renewed_and_the_action_done", None)
        names = _renewable(type(self)) if asked else []
        return next((kind for kind in self.connector.auth if kind.name in names), None)

    def sample(self, trigger: Trigger[Any]) -> Path:
        """The file with a trigger's sample. Raises AssertionError where it declares none."""
        assert trigger.sample, (
            f"{trigger.type} has no sample: put a call of the vendor into {self.folder()} and name the file with "
            f'sample="{trigger.name}.json"'
        )
        return self.folder() / trigger.sample


def _parsed(suite: type[Contract]) -> list[str]:
    """The triggers that come by a call or a poll; those derived from silence come of others."""
    return [name for name, trigger in suite.connector.triggers.items() if trigger.parse is not None]


def _called(suite: type[Contract]) -> list[str]:
    """Those of them that come by a call; the others come by a poll alone."""
    return [name for name in _parsed(suite) if suite.connector.triggers[name].topics]


def _is_of_calls(test: str) -> bool:
    return test.startswith("test_a_call_")


def _renewable(suite: type[Contract]) -> list[str]:
    """The kinds of auth whose tokens the hub renews."""
    return [kind.name for kind in suite.connector.auth if isinstance(kind, ClientCredentials | OAuth2)]
