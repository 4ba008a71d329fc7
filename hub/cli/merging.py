"""Commands about contacts that are one person: `hub contacts merge`, `unmerge`."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING, Annotated

import typer

from hub.cli.entry import with_hub
from hub.cli.inspect import contacts
from hub.cli.output import AsJson, confirm, counted, note, print_json, say

if TYPE_CHECKING:
    from hub import shown
    from hub.process import Hub

_WHO = "ID|EMAIL|PHONE"


def add_to(app: typer.Typer) -> None:
    """Add these commands to the group `hub contacts`, which is there already."""
    contacts.command("merge")(merge)
    contacts.command("unmerge")(unmerge)


def merge(
    keep: Annotated[
        str, typer.Argument(metavar="KEEP", help="The one that stays: id, e-mail address or phone number.")
    ],
    other: Annotated[str, typer.Argument(metavar="OTHER", help="The one whose everything becomes theirs.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make two contacts one person: what the other one did, is known by and waits for is the kept one's; nothing starts.

    Of two runs of a recipe that would not have let one person in twice, one ends.
    """
    from hub import merging

    async def look(hub: Hub) -> shown.Merging:
        await hub.time.sync()
        return merging.view(await hub.merging.look(*await merging.find(hub.store, keep, other)))

    found = with_hub(look)
    if not as_json:
        say(f"{found['other']} becomes {found['kept']}: {_amount(found)}")
        say(*(f"  the run {run} ends: {why}" for run, why in found["ended"].items()))
    confirm("Merge them?", yes=yes, why="runs that it ends stay ended")

    async def act(hub: Hub) -> shown.Merging:
        await hub.time.sync()
        done = await hub.merging.merge(found["kept"], found["other"], who=getpass.getuser())
        hub.ring()
        return merging.view(done)

    done = with_hub(act)
    if as_json:
        print_json(done)
        return
    say(f"merge {done['id']}: they are one person now")
    note(f"`hub contacts unmerge {done['id']}` undoes it")


def _amount(found: shown.Merging) -> str:
    parts = [
        counted(found["identities"], "identity").replace("identitys", "identities"),
        counted(found["events"], "event"),
        f"{counted(found['runs'], 'run')} ({found['live_runs']:,} of them going on)",
        counted(found["messages"], "message"),
    ]
    return ", ".join(parts)


def unmerge(
    merge_id: Annotated[
        str | None, typer.Argument(metavar="MERGE", help="The merge, as it was said when it was made.")
    ] = None,
    contact: Annotated[
        str | None, typer.Option("--contact", metavar=_WHO, help="The newest merge of this person instead.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make two contacts of one again that were merged: both are as they were, and what came since stays with the kept one."""
    from hub import merging

    if (merge_id is None) == (contact is None):
        raise typer.BadParameter("say which merge, or whose newest one with --contact", param_hint="MERGE")

    async def act(hub: Hub) -> shown.Unmerged:
        await hub.time.sync()
        wanted = merge_id if merge_id is not None else await merging.newest(hub.store, str(contact))
        done = await hub.merging.undo(wanted)
        hub.ring()
        return merging.undone_view(done)

    done = with_hub(act)
    if as_json:
        print_json(done)
        return
    say(f"{done['kept']} and {done['other']} are two people again")
    say(
        f"what came since stays with {done['kept']}: {counted(done['events_stay'], 'event')}, {counted(done['runs_stay'], 'run')}"
    )
    note("runs that the merge ended stay ended")
