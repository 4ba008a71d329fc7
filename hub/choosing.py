"""What can be chosen at a vendor: asked for page by page, kept for a while, and found by the label that people know."""

from __future__ import annotations

import asyncio
import copy
import difflib
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hub.catalogue import Catalogue, nearest
from hub.connections import Connection, Connections
from hub.connector import Choice, ChoicePage, ChoiceQuery, Connector, ReadChoices
from hub.documents import at
from hub.errors import (
    AuthExpired,
    ConfigError,
    ConnectorError,
    HubError,
    PluginError,
    RateLimited,
    RecipeError,
    RecipeErrors,
    VendorUnavailable,
)
from hub.events import Json
from hub.recipes.chosen import Written, chosen_fields, written

if TYPE_CHECKING:
    # Commands that only read recipes start without Redis's client.
    from hub.limits import Limits

# Somebody who makes a list at the vendor and comes back finds it; a vendor is not asked again for every field.
_KEEP_S, _KEEP_MOST = 300.0, 500
# So many choices are read to find one; of more, its own search is asked.
_READ_MOST, _PAGES_MOST = 2_000, 50
_ANSWER_S = 20.0
# How long somebody who looks at a screen waits for a budget.
_PATIENCE_S = 5.0
_NAMED = 5


@dataclass(frozen=True)
class Pinned:
    """A choice that a recipe names, and the id that it stands for.

    `label` is None where the vendor was not asked: the id was pinned before, or is taken as it is written (`unchecked`).
    """

    step: str
    field: str
    connection: str
    choices: str
    written: str
    id: str
    label: str | None
    unchecked: str | None = None


@dataclass(frozen=True)
class _Found:
    """What was read; `whole` says whether that is all there is, `fresh` that none of it was kept from before.

    Where there is more, `fresh` is about what the vendor's search found.
    """

    items: Sequence[Choice]
    whole: bool
    fresh: bool


class Choosing:
    """The choices of this hub's connections, kept in memory."""

    def __init__(
        self,
        connections: Connections,
        catalogue: Catalogue,
        limits: Limits,
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connections, self._catalogue, self._limits, self._now = connections, catalogue, limits, now
        self._kept: OrderedDict[tuple[object, ...], tuple[float, ChoicePage]] = OrderedDict()

    # -- looking ---------------------------------------------------------------------------------------------------

    async def offered(self, name: str) -> dict[str, list[str]]:
        """What can be chosen over a connection, each with the fields of actions that take it (`crm.move.stage`)."""
        connector = self._connections.connector((await self._connections.by_name(name)).connector)
        found: dict[str, list[str]] = {choices: [] for choices in connector.choices}
        for action in connector.actions.values():
            for field, chosen in chosen_fields(action.input).items():
                found.setdefault(chosen.choices, []).append(f"{action.type}.{field}")
        return found

    async def page(
        self,
        name: str,
        choices: str,
        *,
        search: str = "",
        cursor: str | None = None,
        within: Mapping[str, str] | None = None,
    ) -> ChoicePage:
        """A page of choices, up to five minutes old. Raises ConfigError for a wrong name, ConnectorError, PluginError."""
        connection = await self._connections.by_name(name)
        connector = self._connections.connector(connection.connector)
        self._check_within(connector, choices, within or {})
        query = ChoiceQuery(search=search, cursor=cursor, within=dict(within or {}))
        return (await self._page(connection, connector, choices, query))[0]

    def _check_within(self, connector: Connector, choices: str, within: Mapping[str, str]) -> None:
        if choices not in connector.choices:
            there = f"it has {', '.join(connector.choices)}" if connector.choices else "it has nothing to choose from"
            raise ConfigError(f"{connector.name} has no {choices}{nearest(choices, connector.choices)}; {there}")
        fields = [chosen for one in connector.actions.values() for chosen in chosen_fields(one.input).values()]
        wants = [chosen.within for chosen in fields if chosen.choices == choices]
        known = sorted({name for names in wants for name in names})
        # Of what no action takes only the connector knows what it depends on.
        for name in within if wants else ():
            if name not in known:
                depend = f"they depend on {', '.join(known)}" if known else "they depend on nothing"
                raise ConfigError(f"the {choices} do not depend on {name}{nearest(name, known)}; {depend}")
        if wants and not any(set(names) <= set(within) for names in wants):
            missing = next(name for name in min(wants, key=len) if name not in within)
            raise ConfigError(f"the {choices} depend on {missing}; say which with --within {missing}=ID")

    async def _page(
        self, connection: Connection, connector: Connector, choices: str, query: ChoiceQuery, *, fresh: bool = False
    ) -> tuple[ChoicePage, bool]:
        """A page, and whether the vendor was asked for it just now."""
        key = (connection.id, choices, query.search, query.cursor, *sorted(query.within.items()))
        until, page = self._kept.get(key, (float("-inf"), ChoicePage(())))
        if not fresh and until > self._now():
            self._kept.move_to_end(key)
            return page, False
        page = await self._ask(connection, connector, choices, query)
        self._kept[key] = (self._now() + _KEEP_S, page)
        self._kept.move_to_end(key)
        while len(self._kept) > _KEEP_MOST:
            self._kept.popitem(last=False)
        return page, True

    async def _ask(self, connection: Connection, connector: Connector, choices: str, query: ChoiceQuery) -> ChoicePage:
        """Ask the vendor as any call does: within its budget, with a good token, renewed once if it is refused."""
        read = connector.choices[choices]
        try:
            return await self._call(connection, connector, read, query)
        except AuthExpired as error:
            if not await self._connections.tokens.renew_refused(connection):
                await self._connections.unhealthy(connection, str(error))
                raise
            return await self._call(self._connections.current(connection), connector, read, query)
        except RateLimited as error:
            await self._limits.push(connection.name, error.retry_after_s)
            raise

    async def _call(
        self, connection: Connection, connector: Connector, read: ReadChoices, query: ChoiceQuery
    ) -> ChoicePage:
        await self._await_turn(connection.name, connector)
        try:
            async with asyncio.timeout(_ANSWER_S):
                return await read(await self._connections.context(connection), query)
        except TimeoutError as error:
            raise VendorUnavailable(f"{connection.name} did not answer within {_ANSWER_S:.0f} s") from error
        except HubError:
            raise
        except Exception as error:  # a plugin may raise anything
            raise PluginError(
                connector.name, f"its choices cannot be read ({type(error).__name__}); mend it"
            ) from error
        finally:
            self._limits.release(connection.name)

    async def _await_turn(self, name: str, connector: Connector) -> None:
        waited_s = 0.0
        while (refused := await self._limits.take(name, connector, 1, waited=waited_s > 0)) is not None:
            if waited_s + refused.wait_s > _PATIENCE_S:
                raise RateLimited(f"{refused.why}; try again in {refused.wait_s:.0f} s", retry_after_s=refused.wait_s)
            await asyncio.sleep(refused.wait_s)
            waited_s += max(refused.wait_s, 0.01)

    # -- finding by label ------------------------------------------------------------------------------------------

    async def pin(
        self, bound: Mapping[str, Json], before: Mapping[str, Json] | None
    ) -> tuple[dict[str, Json], list[Pinned]]:
        """A bound definition with the ids of all choices that it names, and what each stood for.

        An id that the version published `before` holds is taken without a question. Raises RecipeErrors with everything
        that is not found, is found more than once, or cannot be asked for.
        """
        pinned: dict[str, Json] = copy.deepcopy(dict(bound))
        known = {_key(one, one.text) for one in written(before, self._catalogue)} if before else set()
        found: list[Pinned] = []
        errors: list[RecipeError] = []
        for place in [one.place for one in written(pinned, self._catalogue)]:
            # Looked at anew, since a choice may depend on one that was just found.
            one = next(one for one in written(pinned, self._catalogue) if one.place == place)
            try:
                pin = await self._find(one, known)
            except ConnectorError as error:
                errors.append(
                    RecipeError(
                        f"{one.connection} could not be asked which of its {one.chosen.choices} {one.text} is ({error}); "
                        + (
                            f"give it new credentials by `hub connections reauthorise {one.connection}`"
                            if isinstance(error, AuthExpired)
                            else "try again, or write an id that was published before"
                        ),
                        path="/".join(map(str, place)),
                    )
                )
                continue
            except HubError as error:
                errors.append(RecipeError(str(error), path="/".join(map(str, place))))
                continue
            at(pinned, one.place[:-1])[one.place[-1]] = pin.id
            found.append(pin)
        if errors:
            raise RecipeErrors(errors)
        return pinned, found

    async def _find(self, one: Written, known: set[tuple[object, ...]]) -> Pinned:
        pin = Pinned(one.step, one.field, one.connection, one.chosen.choices, one.text, one.text, None)
        if _key(one, one.text) in known:
            return pin
        if one.within is None:
            depends = ", ".join(one.chosen.within)
            return replace(pin, unchecked=f"what {depends} is, is only known when it runs")
        connection = await self._connections.by_name(one.connection)
        connector = self._connections.connector(one.connector)
        if one.chosen.choices not in connector.choices:
            raise PluginError(connector.name, f"it does not say what {one.chosen.choices} there are; mend it")
        if missing := [name for name in one.chosen.within if name not in one.within]:
            raise ConfigError(f"which {one.field} is meant depends on {missing[0]}; write {missing[0]} beside it")
        found = await self._read(connection, connector, one)
        matches = _matching(found.items, one.text)
        if not matches and not found.fresh:
            # It may have been made a moment ago.
            found = await self._read(connection, connector, one, before=found)
            matches = _matching(found.items, one.text)
        if len(matches) == 1:
            return replace(pin, id=matches[0].id, label=matches[0].label)
        if matches:
            named = ", ".join(f"{c.id}{f' ({c.hint})' if c.hint else ''}" for c in matches[:_NAMED])
            more = f" and {len(matches) - _NAMED} more" if len(matches) > _NAMED else ""
            raise ConfigError(
                f"{one.connection} has {len(matches)} {one.chosen.choices} called {one.text}: {named}{more}; write the id"
            )
        if not found.whole:
            return replace(pin, unchecked=f"there are more than {_READ_MOST:,} {one.chosen.choices}")
        within = "".join(f" --within {name}={value}" for name, value in one.within.items())
        raise ConfigError(
            f"{one.connection} has no {one.text} among its {one.chosen.choices}{_near(one.text, found.items)}; "
            f"`hub connections choices {one.connection} {one.chosen.choices}{within}` lists them"
        )

    async def _read(
        self, connection: Connection, connector: Connector, one: Written, *, before: _Found | None = None
    ) -> _Found:
        """All choices, or the first two thousand and those that the vendor finds by the text.

        What was in vain `before` is asked anew: of too many to read that is the search alone.
        """
        everything = await self._every(connection, connector, one, "", fresh=before is not None and before.whole)
        if everything.whole:
            return everything
        searched = await self._every(connection, connector, one, one.text, fresh=before is not None)
        items = {choice.id: choice for choice in (*everything.items, *searched.items)}
        return _Found(list(items.values()), False, searched.fresh)

    async def _every(
        self, connection: Connection, connector: Connector, one: Written, search: str, *, fresh: bool
    ) -> _Found:
        items: list[Choice] = []
        asked, cursor, seen = True, None, set[str]()
        for _ in range(_PAGES_MOST):
            query = ChoiceQuery(search=search, cursor=cursor, within=one.within or {})
            page, new = await self._page(connection, connector, one.chosen.choices, query, fresh=fresh)
            items += page.items
            asked, cursor = asked and new, page.cursor
            if cursor is None:
                return _Found(items, True, asked)
            if cursor in seen or len(items) >= _READ_MOST:
                break
            seen.add(cursor)
        return _Found(items, False, asked)


def _key(one: Written, id_: str) -> tuple[object, ...]:
    return (one.connection, one.chosen.choices, *sorted((one.within or {}).items()), id_)


def _matching(items: Sequence[Choice], text: str) -> list[Choice]:
    """The choices that a text means: by id, else by label, else by label in capitals or small letters."""
    unique = list({choice.id: choice for choice in items}.values())
    folded = text.strip().casefold()
    return (
        [choice for choice in unique if choice.id == text]
        or [choice for choice in unique if choice.label == text]
        or [choice for choice in unique if choice.label.strip().casefold() == folded]
    )


def _near(text: str, items: Sequence[Choice]) -> str:
    labels = {choice.label.casefold(): choice.label for choice in reversed(items)}
    close = [labels[word] for word in difflib.get_close_matches(text.casefold(), list(labels), n=3, cutoff=0.5)]
    return f"; did you mean {' or '.join(close)}?" if close else ""
