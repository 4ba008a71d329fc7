"""What every connector must keep to, as a suite of tests: a plugin subclasses `Contract` and says what is its own.

Needs pytest and nothing else of it than that classes are collected. Each failure is a sentence that says what to mend.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from hub.connector import Connector, Trigger
from hub.errors import HubError
from hub.events import Json
from hub.testing.contract import calls, declared, door
from hub.testing.contract.door import Call
from hub.testing.contract.effects import prove_effect_class

__all__ = ["Call", "Contract", "prove_effect_class"]


class Contract:
    """The suite of one connector. Subclass it in a test file, under a name that begins with `Test`.

    `settings` are a connection's fields that are not secret, `inputs` what a recipe's `with` would hold for each action.
    `fixtures` is the folder of the triggers' samples, `fixtures` beside the test file unless given. `errors` says where an
    action means something else by a status than the contract does: `{404: SkipStep}`, or `{("find", 404): SkipStep}`.
    `extra` are further plugins that are not installed.
    """

    connector: ClassVar[Connector]
    settings: ClassVar[Mapping[str, str]] = {}
    inputs: ClassVar[Mapping[str, Mapping[str, Json]]] = {}
    fixtures: ClassVar[Path | None] = None
    errors: ClassVar[Mapping[int | tuple[str, int], type[HubError]]] = {}
    extra: ClassVar[Sequence[object]] = ()

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
        absent = {"action": not cls.connector.actions, "poll": not cls.connector.polls, "trigger": not _parsed(cls)}
        for name, test in inspect.getmembers(cls, inspect.isfunction):
            needs = inspect.signature(test).parameters
            uncalled = _is_of_calls(name) and not (cls.connector.webhook and _called(cls))
            if any(absent.get(need, False) for need in needs) or uncalled:
                setattr(cls, name, None)

    def pytest_generate_tests(self, metafunc: Any) -> None:  # Any: pytest is no dependency of the hub
        """One test for each trigger, action or poll."""
        connector = self.connector
        for name, all_ in {
            "trigger": _called(type(self)) if _is_of_calls(metafunc.function.__name__) else _parsed(type(self)),
            "action": connector.actions,
            "poll": connector.polls,
        }.items():
            if name in metafunc.fixturenames:
                metafunc.parametrize(name, sorted(all_))

    # -- what is declared ----------------------------------------------------------------------------------------------

    def test_every_declared_scope_is_known(self) -> None:
        declared.prove_scopes(self.connector)

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

    def test_a_poll_finds_the_same_facts_again(self, poll: str) -> None:
        asyncio.run(calls.prove_poll(self, poll))

    # -- what goes out -------------------------------------------------------------------------------------------------

    def test_an_action_runs_against_the_sandbox(self, action: str) -> None:
        asyncio.run(calls.prove_run(self, action))

    def test_the_sandbox_refuses_wrong_credentials(self, action: str) -> None:
        asyncio.run(calls.prove_credentials(self, action))

    def test_each_error_of_the_vendor_is_told_by_its_kind(self, action: str) -> None:
        asyncio.run(calls.prove_errors(self, action))

    def test_the_effect_class_of_an_action_holds(self, action: str) -> None:
        asyncio.run(calls.prove_effect(self, action))

    def test_no_secret_is_told(self, action: str) -> None:
        asyncio.run(calls.prove_discretion(self, action))

    # -- for the proofs ------------------------------------------------------------------------------------------------

    def folder(self) -> Path:
        """Where the samples are."""
        return self.fixtures or Path(inspect.getfile(type(self))).parent / "fixtures"

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
