"""What may be chosen: by label, within what was chosen before, page by page."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from hub import ActionContext, Choice, ChoiceQuery, Chosen
from hub_hubspot import hubspot
from hub_hubspot.sandbox import Portal
from hub_hubspot.sandbox.portal import ListOf

ContextMaker = Callable[..., AbstractAsyncContextManager[ActionContext]]


async def chosen(ctx: ActionContext, name: str, search: str = "", **within: str) -> list[Choice]:
    """All pages of what may be chosen."""
    found: list[Choice] = []
    cursor: str | None = None
    while True:
        page = await hubspot.choices[name](ctx, ChoiceQuery(search=search, cursor=cursor, within=within))
        found += page.items
        if page.cursor is None:
            return found
        cursor = page.cursor


@pytest.mark.parametrize(
    ("name", "search", "expected"),
    [
        ("owners", "", ["Ayşe Example", "Ben Example", "Chloé Example"]),
        ("owners", "ben", ["Ben Example"]),
        ("teams", "", ["Sales"]),
        ("deal_pipelines", "renew", ["Renewals"]),
        ("ticket_pipelines", "", ["Support Pipeline"]),
        ("ticket_stages", "", ["New", "Waiting on contact", "Closed"]),
        ("static_lists", "", ["Newsletter"]),
        ("forms", "", ["Demo request", "Old sign-up", "Pop-up", "Comments"]),
        ("emails", "wel", ["Welcome"]),
        ("subscription_types", "", ["Newsletter"]),
        ("subscription_types", "x", []),
    ],
)
async def test_things_are_chosen_by_label(name: str, search: str, expected: list[str], context: ContextMaker) -> None:
    async with context() as ctx:
        assert [choice.label for choice in await chosen(ctx, name, search)] == expected


async def test_stages_are_those_of_the_chosen_pipeline(context: ContextMaker) -> None:
    async with context() as ctx:
        by_id = await chosen(ctx, "deal_stages", pipeline="77")
        assert by_id == await chosen(ctx, "deal_stages", pipeline="Renewals")
        every = await chosen(ctx, "deal_stages")
    assert by_id == [Choice("771", "Due", "Renewals"), Choice("772", "Renewed", "Renewals")]
    assert len(every) == 4


async def test_life_cycle_stages_come_in_hubspots_order(context: ContextMaker) -> None:
    async with context() as ctx:
        assert [choice.id for choice in await chosen(ctx, "lifecycle_stages")][:3] == [
            "subscriber",
            "lead",
            "marketingqualifiedlead",
        ]


async def test_many_lists_and_e_mails_come_in_pages(portal: Portal, context: ContextMaker) -> None:
    portal.lists = {str(n): ListOf(str(n), f"List {n}", ["MANUAL", "SNAPSHOT", "DYNAMIC"][n % 3]) for n in range(360)}
    portal.emails = [{"id": str(n), "name": f"E-mail {n}", "state": "DRAFT", "subject": "x"} for n in range(250)]
    async with context() as ctx:
        assert len(await chosen(ctx, "static_lists")) == 240
        assert len(await chosen(ctx, "emails")) == 250


def test_every_choice_that_an_input_names_can_be_read() -> None:
    named = {
        one.choices
        for action in hubspot.actions.values()
        for field in action.input.model_fields.values()
        for one in _chosen(field)
    }
    assert named <= set(hubspot.choices)
    assert {"owners", "teams", "deal_stages", "ticket_stages", "static_lists", "emails", "subscription_types"} <= named


def _chosen(field: Any) -> list[Chosen]:
    return [one for one in field.metadata if isinstance(one, Chosen)]
