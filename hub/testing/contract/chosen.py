"""Choices at the sandbox: told to their end, found by their labels, and as discreet as any call."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from pydantic import ValidationError

from hub.connector import Auth, Choice, ChoicePage, ChoiceQuery
from hub.errors import AuthExpired, HubError, RecipeErrors
from hub.events import Json
from hub.http import ConnectionHttp
from hub.process import Hub
from hub.recipes.chosen import chosen_fields
from hub.testing.contract.calls import EXPECTED, came_to
from hub.testing.contract.door import secrets_of
from hub.testing.contract.stage import hub_of, listening
from hub.testing.sandbox import Sandbox

if TYPE_CHECKING:
    from hub.testing.contract import Contract

_MOST_PAGES = 100
_NOBODYS = "what the contract calls nothing"
_WHOM = "jane.doe@example.com"


@dataclass(frozen=True)
class _Choosing:
    """One kind of choice of a connector, in a hub with one account of it."""

    suite: Contract
    choices: str
    hub: Hub
    sandbox: Sandbox

    @property
    def name(self) -> str:
        return f"{self.suite.connector.name}'s {self.choices}"

    def taken_by(self) -> list[tuple[str, str]]:
        """The actions that take one, each with its field."""
        found = ((n, chosen_fields(action.input)) for n, action in self.suite.connector.actions.items())
        return [(n, field) for n, fields in found for field, one in fields.items() if one.choices == self.choices]

    def within(self) -> dict[str, str]:
        """What the choices depend on: as the suite says, else as its inputs or their defaults have it."""
        if self.choices in self.suite.within:
            return dict(self.suite.within[self.choices])
        for name, field in self.taken_by():
            model = self.suite.connector.actions[name].input
            given: dict[str, Json] = {one: of.default for one, of in model.model_fields.items()}
            given.update(self.suite.inputs.get(name, {}))
            wanted = {one: given.get(one) for one in chosen_fields(model)[field].within}
            if all(isinstance(value, str) for value in wanted.values()):
                return {one: str(value) for one, value in wanted.items()}
        assert not self.taken_by(), (
            f"{self.name} depend on what no input of the contract names: say so by `within`, such as "
            f'{{"{self.choices}": {{…}}}}'
        )
        return {}

    async def page(self, *, search: str = "", cursor: str | None = None) -> ChoicePage:
        """One page, as the connector itself gives it."""
        ctx = await self.hub.connections.context(await self.hub.connections.by_name(self.suite.connector.name))
        query = ChoiceQuery(search=search, cursor=cursor, within=self.within())
        return await self.suite.connector.choices[self.choices](ctx, query)

    async def every(self, search: str = "") -> list[Choice]:
        """All of them, page by page. Raises AssertionError where they never end, or where there are none to ask about."""
        found: list[Choice] = []
        cursors: list[str | None] = [None]
        while len(cursors) <= _MOST_PAGES:
            page = await self.page(search=search, cursor=cursors[-1])
            found += page.items
            if page.cursor is None:
                assert search or found, f"there are none of {self.name} at the sandbox: let `prepare` make some there"
                return found
            if page.cursor in cursors:
                break
            cursors.append(page.cursor)
        raise AssertionError(f"{self.name} do not end: give no cursor with the last page, and no cursor twice")

    def given(self, field: str, text: str) -> dict[str, Json]:
        """An input with a text in a field, `lines.variant_id` too, and beside it what that depends on."""
        *outer, last = field.split(".")
        given: dict[str, Json] = {**self.within(), last: text}
        for part in reversed(outer):
            given = {part: given}
        return given

    def refused(self, text: str) -> list[str]:
        """The fields whose action lets no recipe write a text for them; one that takes several takes each as a list has it."""
        found = []
        for name, field in self.taken_by():
            try:
                self.suite.connector.actions[name].input.model_validate(self.given(field, text))
            except ValidationError as error:
                told = [one for one in error.errors() if one["type"] != "list_type"]
                found += [f"{name}.{field}" for one in told if ".".join(map(str, one["loc"])) == field]
        return found

    async def pinned(self, text: str) -> str | None:
        """The id that publishing a recipe would write for a text, having asked; None where it is refused."""
        connector, (name, field) = self.suite.connector.name, self.taken_by()[0]
        type_ = f"{connector}.{name}"
        step = {
            "id": "chosen",
            "do": type_,
            "action": type_,
            "connection": connector,
            "with": self.given(field, text),
        }
        try:
            _, found = await self.hub.choosing.pin({"steps": [step]}, None)
        except RecipeErrors as refused:
            if "could not be asked" in str(refused):
                raise AssertionError(f"{self.name} cannot be read: {refused}") from refused
            return None
        return next((one.id for one in found if one.field == field and one.unchecked is None), None)


@asynccontextmanager
async def _choosing(suite: Contract, choices: str, auth: Auth | None = None) -> AsyncIterator[_Choosing]:
    async with hub_of(suite.connector, suite.settings, suite.extra, prepare=suite.prepare, auth=auth) as (hub, sandbox):
        yield _Choosing(suite, choices, hub, sandbox)


async def prove_pages(suite: Contract, choices: str) -> None:
    """All pages come to an end, and everything in them has an id of its own and a label."""
    async with _choosing(suite, choices) as it:
        found = await it.every()
    ids = [one.id for one in found]
    twice = sorted({id_ for id_ in ids if ids.count(id_) > 1})
    assert not twice, f"{it.name} tell of {twice[0]} more than once: let a page begin where the one before it ended"
    bare = [one for one in found if not (one.id and one.label)]
    assert not bare, f"one of {it.name} has no id or no label; where the vendor has no name for it, take the id"


async def prove_labels(suite: Contract, choices: str) -> None:
    """A label that is there is found, and a recipe may write it; one that is not there is refused."""
    async with _choosing(suite, choices) as it:
        found = await it.every()
        labels = [one.label.strip().casefold() for one in found]
        # Of several that are called alike, none is meant by the label alone.
        one = next((one for one in found if labels.count(one.label.strip().casefold()) == 1), found[0])
        if it.taken_by():
            strict = it.refused(one.label)
            assert not strict, (
                f"{strict[0]} takes no label of {it.name}, such as {one.label}: let it be text without a pattern, and look at "
                "the id where it is used"
            )
            pinned = await it.pinned(one.label)
            assert pinned == one.id or labels.count(one.label.strip().casefold()) > 1, (
                f"a recipe that writes {one.label} for one of {it.name} gets {pinned}, and not {one.id}: let labels stay"
            )
            assert await it.pinned(_NOBODYS) is None, (
                f"a recipe that writes what none of {it.name} is called is not refused: tell only what the vendor has"
            )
        assert one.id in {choice.id for choice in await it.every(one.label)}, (
            f"{it.name} are searched for {one.label}, and {one.id} is not found: search all that is shown as a label"
        )
        strange = [choice for choice in await it.every(_NOBODYS) if choice.label == _NOBODYS]
        assert not strange, f"{it.name} have whatever they are searched for: tell only what the vendor has"


async def prove_expiry(suite: Contract, choices: str, kind: Auth | None) -> None:
    """A token that is refused between two pages is renewed, and the choices are the same; else the error says what it is."""
    async with _choosing(suite, choices, kind) as it:
        expected, after, within = await it.page(), None, it.within()
        if expected.cursor is not None:
            after, expected = expected.cursor, await it.page(cursor=expected.cursor)
        it.hub.connections.tokens.seems_old(await it.hub.connections.by_name(suite.connector.name))
        it.sandbox.refuse_next, error, page = 401, None, ChoicePage(())
        try:
            page = await it.hub.choosing.page(suite.connector.name, choices, cursor=after, within=within)
        except HubError as raised:
            error = raised
        # What is the same for everybody is told without a call.
        if it.sandbox.refuse_next:
            return
    if kind is None:
        assert isinstance(error, AuthExpired), (
            f"{it.name} must raise AuthExpired when the credentials are refused, and {came_to(error)}"
        )
    else:
        assert error is None, f"{it.name} must be told with the renewed token of {kind.name}, and {came_to(error)}"
        assert [*page.items] == [*expected.items], (
            f"{it.name} are others once the token of {kind.name} was renewed in the middle: let a 401 raise AuthExpired"
        )


async def prove_discretion(suite: Contract, choices: str) -> None:
    """No credential stands in a choice, an error or a log line, and nobody who is searched for in an error or a log line."""
    with listening() as lines:
        async with _choosing(suite, choices) as it:
            ctx = await it.hub.connections.context(await it.hub.connections.by_name(suite.connector.name))
            credentials = cast("ConnectionHttp", ctx.http).credentials  # the hub's own contexts have no other
            secrets = secrets_of(suite) | (set(credentials.values()) - set(ctx.settings.values()))
            told, errors = repr(await it.every()), list[str]()
            for shape in ("flat", "nested"):
                for status in (400, *EXPECTED):
                    it.sandbox.repeat_next, it.sandbox.repeat_as = status, shape
                    try:
                        await it.page(search=_WHOM)
                    except Exception as error:  # whatever it is, it may tell too much
                        errors.append(f"{error} {error!r} {error.__cause__!r}")
                    it.sandbox.repeat_next = 0
    for where, text in {"what is told": told, "an error": "\n".join(errors), "a log line": "\n".join(lines)}.items():
        assert not any(secret in text for secret in secrets), f"{where} of {it.name} holds a secret; leave it out"
    for where, text in {"an error": "\n".join(errors), "a log line": "\n".join(lines)}.items():
        assert _WHOM not in text, f"{where} of {it.name} repeats what was searched for, which may be somebody's address"
