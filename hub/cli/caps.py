"""Commands for spending caps: `hub caps`."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from hub.cli.entry import with_hub
from hub.cli.output import AsJson, print_json, say, show_list

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hub import shown
    from hub.events import Json
    from hub.process import Hub
    from hub.store.spending import Cap

caps = typer.Typer(help="Spending caps: how much may be spent per day or month.", no_args_is_help=True)


class Period(StrEnum):
    """What a cap counts over."""

    DAY = "day"
    MONTH = "month"


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.add_typer(caps, name="caps", rich_help_panel="Operate")


@caps.command("set")
def set_cap(
    most: Annotated[int, typer.Argument(metavar="MOST", min=0, help="How many at most.")],
    per: Annotated[Period, typer.Option(help="Counted over the day or month of HUB_ZONE.")],
    connection: Annotated[str | None, typer.Option(metavar="NAME", help="Calls to this connection.")] = None,
    recipe: Annotated[str | None, typer.Option(metavar="NAME", help="Calls of this recipe's runs.")] = None,
    unit: Annotated[str, typer.Option(help="calls, messages, or what an action declares, such as segments.")] = "calls",
    as_json: AsJson = False,
) -> None:
    """Set a cap, or change the one there is: what is over waits for the next day or month, and is then sent."""
    given = [(kind, name) for kind, name in (("connection", connection), ("recipe", recipe)) if name is not None]
    if len(given) != 1:
        raise typer.BadParameter("say --connection or --recipe")
    [(kind, target)] = given

    async def act(hub: Hub) -> Cap:
        await hub.time.sync()
        made = await hub.spending.set(kind, target, per=per.value, most=most, unit=unit)
        hub.ring()
        return made

    made = with_hub(act)
    if as_json:
        print_json(vars(made))
    else:
        say(f"at most {made.about}, in force within two seconds")


@caps.command("list")
def list_caps(as_json: AsJson = False) -> None:
    """Every cap, and what was used of it in its present period."""
    columns = {
        "id": "cap",
        "kind": "on",
        "target": "name",
        "use": "used",
        "until_at": "until (UTC)",
    }

    async def find(hub: Hub) -> list[shown.CapUsed]:
        await hub.time.sync()
        return await hub.spending.shown()

    rows: Sequence[Mapping[str, Json]] = with_hub(find)
    if not as_json:
        rows = [{**row, "use": f"{row['used']:,} of {row['most']:,} {row['unit']} per {row['per']}"} for row in rows]
    show_list(rows, columns, as_json=as_json, empty="no caps; set one with `hub caps set`")


@caps.command("remove")
def remove_cap(cap_id: Annotated[str, typer.Argument(metavar="ID")], as_json: AsJson = False) -> None:
    """Remove a cap; runs that wait for it go on."""

    async def act(hub: Hub) -> Cap:
        await hub.time.sync()
        removed = await hub.spending.remove(cap_id)
        hub.ring()
        return removed

    removed = with_hub(act)
    if as_json:
        print_json(vars(removed))
    else:
        say(f"there is no cap of {removed.about} any more")
