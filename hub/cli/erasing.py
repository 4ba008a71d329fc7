"""Commands about people's own data: `hub contacts erase`, `export`, `erasures`, `requests`."""

from __future__ import annotations

import getpass
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hub.cli.entry import read, with_hub
from hub.cli.inspect import contacts
from hub.cli.output import AsJson, Before, Limit, confirm, counted, note, print_json, say, show_list

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hub import shown
    from hub.events import Json
    from hub.process import Hub
    from hub.store.session import Connection

Who = Annotated[str, typer.Argument(metavar="ID|EMAIL|PHONE")]


def add_to(app: typer.Typer) -> None:
    """Add these commands to the group `hub contacts`, which is there already."""
    contacts.command("erase")(erase)
    contacts.command("export")(export)
    contacts.command("erasures")(list_erasures)
    contacts.command("requests")(list_requests)


def erase(
    who: Who,
    reason: Annotated[str, typer.Option(help="Why; kept with the record, which does not say who it was.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Erase a person: their runs end, nothing is sent to them any more, and what is stored about them is emptied."""
    from hub.store import views

    async def look(c: Connection) -> shown.Contact:
        return await views.show_contact(c, await views.find_contact(c, who))

    found = read(look)
    if not as_json:
        going = sum(run["finished_at"] is None for run in found["runs"])
        say(f"contact {found['id']}: {len(found['identities'])} identities, {going} of the newest runs go on")
    confirm("Erase them?", yes=yes)

    async def act(hub: Hub) -> shown.Erasure:
        await hub.time.sync()
        done = await hub.erasing.erase(found["id"], reason=reason, who=getpass.getuser())
        hub.ring()
        return views.erasure_view(done)

    done = with_hub(act)
    if as_json:
        print_json(done)
        return
    say(f"erasure {done['id']}: nothing is sent to them any more")
    note("what is stored is emptied while a hub is running; `hub contacts erasures` tells when that is done")


def export(
    who: Who,
    to: Annotated[Path, typer.Option("--to", metavar="FILE", help="The file to write, which must not be there yet.")],
    as_json: AsJson = False,
) -> None:
    """Write everything that is known of a person to a file, as JSON; requests of theirs that were open are answered by it."""

    async def act(hub: Hub) -> tuple[shown.Export, int]:
        from hub import exporting
        from hub.store import erasures, views

        await hub.time.sync()
        async with hub.store.read() as c:
            contact_id = await views.find_contact(c, who)
        found = await exporting.gather(hub.store, hub.clock, contact_id)
        # For the owner only, and never over something else.
        with os.fdopen(os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(found, file, indent=2, ensure_ascii=False)
            file.write("\n")
        async with hub.store.write() as c:
            now_ms = hub.clock.now_ms()
            return found, await erasures.answered(c, contact_id=contact_id, who=getpass.getuser(), at_ms=now_ms)

    found, answered = with_hub(act)
    counts = {"events": len(found["events"]), "runs": len(found["runs"]), "requests_answered": answered}
    if as_json:
        print_json({"file": str(to), "contact": found["contact"]["id"], **counts})
        return
    say(
        f"{to}: {counted(counts['events'], 'event')} and {counted(counts['runs'], 'run')} of contact {found['contact']['id']}"
    )
    if answered:
        say(f"answered by it: {counted(answered, 'request')}")


def list_erasures(limit: Limit = 50, before: Before = None, as_json: AsJson = False) -> None:
    """What was erased and why, newest first; nothing of it says who it was."""

    async def find(c: Connection) -> list[shown.Erasure]:
        from hub.store import erasures, views

        return [views.erasure_view(row) for row in await erasures.listed(c, before=before, most=limit)]

    found = read(find)
    rows: Sequence[Mapping[str, Json]] = found if as_json else [{**row, "forgotten": _forgotten(row)} for row in found]
    columns = {"id": "erasure", "state": "state", "forgotten": "forgotten by", "reason": "reason", "at": "at (UTC)"}
    show_list(rows, columns, as_json=as_json, empty="nobody was erased", limit=limit)


def _forgotten(row: shown.Erasure) -> str:
    asked = row["connections_done"] + row["connections_pending"]
    return f"{row['connections_done']} of {asked}" if asked else ""


def list_requests(
    done: Annotated[str | None, typer.Option("--done", metavar="ID", help="Mark this one as answered.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Also those that are answered.")] = False,
    limit: Limit = 50,
    before: Before = None,
    as_json: AsJson = False,
) -> None:
    """What people asked to know of themselves by way of a vendor; `hub contacts export` answers it."""
    if done is not None:
        _answer(done, as_json=as_json)
        return

    async def find(c: Connection) -> list[shown.ExportRequest]:
        from hub.store import erasures, views

        state = None if every else erasures.OPEN
        return [
            views.export_request_view(r) for r in await erasures.requests(c, state=state, before=before, most=limit)
        ]

    columns = {"id": "request", "contact": "contact", "event": "event", "connection": "from", "at": "at (UTC)"}
    columns |= {"state": "state"} if every else {}
    show_list(read(find), columns, as_json=as_json, empty="nobody waits for an export", limit=limit)


def _answer(request_id: str, *, as_json: bool) -> None:
    async def act(hub: Hub) -> bool:
        from hub import exporting

        await hub.time.sync()
        return await exporting.answer(hub.store, hub.clock, request_id, who=getpass.getuser())

    if not with_hub(act):
        from hub.errors import NotThere

        raise NotThere(f"there is no open request {request_id}; `hub contacts requests` lists them")
    if as_json:
        print_json({"request": request_id, "state": "done"})
        return
    say("the request is done")
