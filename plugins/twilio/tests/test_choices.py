"""What may be chosen: by label, page by page."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from pydantic import BaseModel

from hub import ActionContext, Choice, ChoiceQuery, Chosen, Rejected
from hub_twilio import twilio
from hub_twilio.sandbox import Template, TwilioSandbox

ContextMaker = Callable[..., AbstractAsyncContextManager[ActionContext]]
SERVICE = "MG000000000000000000000000000000c3"


async def chosen(ctx: ActionContext, name: str, search: str = "") -> list[Choice]:
    """All pages of what may be chosen."""
    found: list[Choice] = []
    cursor: str | None = None
    while True:
        page = await twilio.choices[name](ctx, ChoiceQuery(search=search, cursor=cursor, within={}))
        found += page.items
        if page.cursor is None:
            return found
        cursor = page.cursor


@pytest.fixture(autouse=True)
def furnished(sandbox: TwilioSandbox, account: str) -> None:
    found = sandbox.account(account)
    found.number("+14155550199").name = "Main line"
    found.number("+14155550198").name = "Support"
    found.short_codes["12345"] = "Offers"
    found.service(SERVICE).name = "Marketing"
    found.templates["HX1"] = Template(sid="HX1", account=account, name="Welcome", body="Hello", language="tr")
    found.whatsapp["+14155550199"] = "Example Shop"


@pytest.mark.parametrize(
    ("name", "search", "expected"),
    [
        ("numbers", "", [("+14155550199", "Main line"), ("+14155550198", "Support"), ("12345", "Offers")]),
        ("numbers", "main", [("+14155550199", "Main line")]),
        ("numbers", "0198", [("+14155550198", "Support")]),
        ("messaging_services", "", [(SERVICE, "Marketing")]),
        ("templates", "", [("HX1", "Welcome")]),
        ("templates", "goodbye", []),
        ("whatsapp_senders", "shop", [("+14155550199", "Example Shop")]),
    ],
)
async def test_things_are_chosen_by_label(
    name: str, search: str, expected: list[tuple[str, str]], context: ContextMaker
) -> None:
    async with context() as ctx:
        assert [(one.id, one.label) for one in await chosen(ctx, name, search)] == expected


async def test_many_come_in_pages(sandbox: TwilioSandbox, context: ContextMaker, account: str) -> None:
    found = sandbox.account(account)
    for n in range(250):
        found.number(f"+1415555{1000 + n}")
        found.service(f"MG{1000 + n:032x}")
        sid = f"HX{n:032x}"
        found.templates[sid] = Template(sid=sid, account=account, name=f"Template {n}", body="x")
        found.whatsapp[f"+1415555{1000 + n}"] = f"Shop {n}"
    async with context() as ctx:
        sizes = {name: len(await chosen(ctx, name)) for name in twilio.choices}
    assert sizes == {"numbers": 253, "messaging_services": 251, "templates": 251, "whatsapp_senders": 251}


@pytest.mark.parametrize("name", sorted(twilio.choices))
@pytest.mark.parametrize(
    "cursor",
    ["https://evil.example.com/", "https://api.twilio.com/2010-04-01/Accounts/AC1/Messages.json?Page=1", "x"],
)
async def test_a_cursor_leads_to_the_same_choices_only(
    name: str, cursor: str, context: ContextMaker, witness: Any
) -> None:
    async with context() as ctx:
        with pytest.raises(Rejected, match="cursor"):
            await twilio.choices[name](ctx, ChoiceQuery(cursor=cursor, within={}))
    assert witness.requests == []


def test_every_choice_that_an_input_names_can_be_read() -> None:
    def named(model: type[BaseModel]) -> set[str]:
        found = set()
        for field in model.model_fields.values():
            stack = [field.metadata, getattr(field.annotation, "__args__", ())]
            while stack:
                for part in stack.pop():
                    if isinstance(part, Chosen):
                        found.add(part.choices)
                    stack.append((*getattr(part, "__metadata__", ()), *getattr(part, "__args__", ())))
        return found

    every = set().union(*(named(action.input) for action in twilio.actions.values()))
    assert every == set(twilio.choices)
