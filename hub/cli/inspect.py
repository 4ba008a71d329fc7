"""Commands that show what happened and why: runs, events, deliveries, contacts. They read the database themselves."""

from __future__ import annotations

import getpass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hub.cli.entry import hub_clock, open_existing_store, read, run, with_hub
from hub.cli.output import AsJson, Before, Limit, note, print_json, say, show_list, show_record, show_table
from hub.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from hub import shown
    from hub.events import Json
    from hub.process import Hub
    from hub.store.session import Connection

_PANEL = "Look"
# How long somebody waits at the terminal to hear what came of a replay.
_REPLAY_PATIENCE_S = 5.0

runs = typer.Typer(help="Runs: what became of recipes.", no_args_is_help=True)
events = typer.Typer(help="Events: what happened.", no_args_is_help=True)
deliveries = typer.Typer(help="Calls that came in, as they came; as fixtures.", invoke_without_command=True)
contacts = typer.Typer(help="Contacts: people, across connectors.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.add_typer(runs, name="runs", rich_help_panel=_PANEL)
    app.add_typer(events, name="events", rich_help_panel=_PANEL)
    app.add_typer(deliveries, name="deliveries", rich_help_panel=_PANEL)
    app.add_typer(contacts, name="contacts", rich_help_panel=_PANEL)


class RunStatus(StrEnum):
    """The states that `hub runs list` knows."""

    READY = "ready"
    RUNNING = "running"
    SLEEPING = "sleeping"
    WAITING = "waiting"
    PARKED = "parked"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Outcome(StrEnum):
    """What came of a call."""

    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"
    UNKNOWN = "unknown"


class Stage(StrEnum):
    """How far an event has come."""

    ENRICH = "enrich"
    ROUTE = "route"
    ROUTED = "routed"
    QUARANTINED = "quarantined"
    PLUGIN = "plugin"
    UNCONNECTED = "unconnected"
    HISTORY = "history"
    ERASED = "erased"


class DeliveryState(StrEnum):
    """What became of a verified call."""

    ACCEPTED = "accepted"
    UNRECOGNISED = "unrecognised"
    UNREADABLE = "unreadable"


# -- runs --------------------------------------------------------------------------------------------------------------

_RUN = {"id": "run", "recipe": "recipe", "status": "status", "reason": "reason", "started_at": "started (UTC)"}


@runs.command("list")
def list_runs(
    recipe: Annotated[str | None, typer.Option(help="Of this recipe only.")] = None,
    status: Annotated[RunStatus | None, typer.Option(help="In this state only.")] = None,
    contact: Annotated[
        str | None, typer.Option(help="Of this person only: id, e-mail address or phone number.")
    ] = None,
    outcome: Annotated[
        Outcome | None, typer.Option(help="With a call of this outcome only; unknown: it may have been done or not.")
    ] = None,
    limit: Limit = 50,
    before: Before = None,
    as_json: AsJson = False,
) -> None:
    """Runs, newest first."""
    from hub.store import views

    async def find(c: Connection) -> list[shown.RunLine]:
        person = await views.find_contact(c, contact) if contact else None
        return await views.list_runs(
            c,
            recipe=recipe,
            status=status.value if status else None,
            contact=person,
            outcome=outcome.value if outcome else None,
            before=before,
            most=limit,
        )

    show_list(read(find), _RUN, as_json=as_json, empty="no runs", limit=limit)


@runs.command("show")
def show_run(run_id: Annotated[str, typer.Argument(metavar="ID")], as_json: AsJson = False) -> None:
    """One run: every step with its reason, its effects, and what it waits for."""
    from hub.store import views

    found = read(lambda c: views.show_run(c, run_id))
    if as_json:
        print_json(found)
        return
    titles = {
        "id": "run",
        "recipe": "recipe",
        "version": "version",
        "contact": "contact",
        "status": "status",
        "reason": "reason",
        "ended_by": "ended by",
        "started_at": "started (UTC)",
        "due_at": "goes on (UTC)",
        "finished_at": "finished (UTC)",
    }
    show_record(found, titles)
    steps = {
        "at": "at (UTC)",
        "step": "step",
        "path": "place",
        "kind": "kind",
        "outcome": "outcome",
        "reason": "reason",
    }
    effects = {"step": "step", "action": "action", "connection": "connection", "state": "state", "attempts": "tries"}
    _section("Steps", found["steps"], steps)
    made = [{**effect, "reason": _and_answer(effect)} for effect in found["effects"]]
    _section("Effects", made, {**effects, "reason": "reason", "input": "asked for"})
    # Exits have no names: they are told by their place in the recipe, as the steps are.
    waits = [{**one, "name": f"exit_on/{one['name']}"} if one["kind"] == "exit" else one for one in found["waits_for"]]
    _section("Waits for", waits, {"kind": "kind", "name": "name", "event": "event"})


def _and_answer(effect: shown.Effect) -> str:
    """Why an effect is in its state, and how the vendor said no: `the list is gone (HTTP 404, code list_missing)`."""
    answer = [f"HTTP {effect['http_status']}"] if effect["http_status"] is not None else []
    answer += [f"code {effect['code']}"] if effect["code"] else []
    return " ".join(filter(None, [effect["reason"], f"({', '.join(answer)})" if answer else None]))


@runs.command("cancel")
def cancel_run(run_id: Annotated[str, typer.Argument(metavar="ID")], as_json: AsJson = False) -> None:
    """End a run: at once when it waits, before its next call when it is being worked on."""
    from hub.store import runs as rows
    from hub.store import views

    async def cancel() -> None:
        async with open_existing_store() as store:
            now_ms = (await hub_clock(store)).now_ms()
            async with store.write() as c:
                shown = await views.show_run(c, run_id)
                if shown["finished_at"] is not None:
                    raise ConfigError(
                        f"the run {run_id} has ended already, by {shown['ended_by']}, at {shown['finished_at']}; "
                        f"`hub runs show {run_id}` tells how"
                    )
                await rows.stop(c, {run_id: {"cancel": "cancelled by operator", "event": None}}, now_ms)

    run(cancel())
    if as_json:
        print_json({"run": run_id, "will_end": True})
        return
    say("the run will end within a second, while a hub is running; `hub runs show` tells")


# -- events ------------------------------------------------------------------------------------------------------------


@events.command("list")
def list_events(
    type_: Annotated[str | None, typer.Option("--type", help="Of this type only, such as shopify.order_paid.")] = None,
    stage: Annotated[Stage | None, typer.Option(help="At this stage only.")] = None,
    limit: Limit = 50,
    before: Before = None,
    as_json: AsJson = False,
) -> None:
    """Events, newest first."""
    from hub.store import views

    rows: Sequence[Mapping[str, Json]] = read(
        lambda c: views.list_events(
            c,
            type_=type_,
            stage=stage.value if stage else None,
            before=before,
            most=limit,
            installed=_installed_types,
        )
    )
    columns = {"id": "event", "type": "type", "connection": "connection", "stage": "stage", "received_at": "came (UTC)"}
    if not as_json:
        rows = [{**row, "stage": _and_why(row, "stage")} for row in rows]
    show_list(rows, columns, as_json=as_json, empty="no events", limit=limit)


def _installed_types() -> Iterable[str]:
    from hub.plugins import load_plugins

    return load_plugins(quarantine=True).catalogue.triggers()


@events.command("show")
def show_event(event_id: Annotated[str, typer.Argument(metavar="ID")], as_json: AsJson = False) -> None:
    """One event: its data, the runs it started, and why it started none of other recipes."""
    from hub.store import views

    found = read(lambda c: views.show_event(c, event_id))
    if as_json:
        print_json(found)
        return
    _show_event(found)


@events.command("replay")
def replay_event(event_id: Annotated[str, typer.Argument(metavar="ID")], as_json: AsJson = False) -> None:
    """Route an event again, after a recipe was published or mended; shows what came of it.

    Every published recipe is asked anew, except those of which the event has started a run already: no run starts twice.
    Runs that failed are taken up by `hub runs retry`.
    """

    async def replay(hub: Hub) -> shown.Event:
        from hub import replays

        await hub.time.sync()
        kept = hub.settings.keep_runs_days
        await replays.replay(hub.store, hub.clock, event_id, who=getpass.getuser(), keep_runs_days=kept, ring=hub.ring)
        return await replays.outcome(hub.store, event_id, limit_s=_REPLAY_PATIENCE_S)

    found = with_hub(replay)
    if as_json:
        print_json(found)
        return
    if found["stage"] == "route":
        note(
            "no hub has taken it up yet; it is routed as soon as one runs, and `hub events show` tells what came of it"
        )
    _show_event(found)


def _show_event(found: shown.Event) -> None:
    titles = {
        "id": "event",
        "type": "type",
        "connection": "connection",
        "contact": "contact",
        "stage": "stage",
        "note": "note",
        "duplicates": "came again",
        "occurred_at": "occurred (UTC)",
        "received_at": "came (UTC)",
    }
    show_record(found, titles)
    _section("Data", [{"field": k, "value": v} for k, v in found["data"].items()], {"field": "field", "value": "value"})
    _section("Started", found["started"], _RUN)
    _section("Not started", found["not_started"], {"recipe": "recipe", "outcome": "outcome", "reason": "reason"})


# -- deliveries --------------------------------------------------------------------------------------------------------


@deliveries.callback()
def list_deliveries(
    context: typer.Context,
    refused: Annotated[bool, typer.Option("--refused", help="Calls that were refused, counted by reason.")] = False,
    state: Annotated[DeliveryState | None, typer.Option(help="In this state only.")] = None,
    limit: Limit = 50,
    before: Before = None,
    as_json: AsJson = False,
) -> None:
    """Calls that came in, as they came, newest first."""
    if context.invoked_subcommand is not None:
        return
    from hub.store import deliveries, views

    if refused:
        if state or before:
            raise typer.BadParameter("--state and --before are about stored calls, refused ones are only counted")

        counted = read(lambda c: views.list_refusals(c, most=limit))
        columns = {
            "minute": "minute (UTC)",
            "address": "address",
            "count": "calls",
            "reason": "reason",
        }
        lines: Sequence[Mapping[str, Json]] = counted
        if not as_json:
            lines = [{**one, "address": _whose(one)} for one in counted]
        show_list(lines, columns, as_json=as_json, empty="nothing was refused")
        if not as_json:
            for line in dict.fromkeys(f"{_whose(one)}: {one['remedy']}" for one in counted):
                note(line)
        return

    async def stored(c: Connection) -> list[shown.Delivery]:
        wanted = state.value if state else None
        return [views.delivery_view(row) for row in await deliveries.listed(c, state=wanted, most=limit, before=before)]

    rows: Sequence[Mapping[str, Json]] = (found := read(stored))
    if not as_json:
        rows = [
            {
                **row,
                # No space, at which it would be broken first.
                "what": f"{row['connector']}:{row['topic']}",
                # The topic stands beside it.
                "state": _and_why(row, "state").replace(f"the topic {row['topic']}", "this topic"),
            }
            for row in found
        ]
    columns = {"id": "delivery", "what": "what", "state": "state", "received_at": "came (UTC)"}
    show_list(rows, columns, as_json=as_json, empty="no deliveries", limit=limit)


def _whose(refusal: shown.Refusal) -> str:
    """The connection or app whose address was called; of an address that is nobody's what tells it from others."""
    if refusal["connection"]:
        return refusal["connection"]
    if refusal["app"]:
        return f"app {refusal['app']}"
    return f"{refusal['connector']}, nobody's: {refusal['key_hash']}"


def _and_why(row: Mapping[str, Json], key: str) -> str:
    return f"{row[key]}: {row['note']}" if row["note"] else str(row[key])


@deliveries.command("capture")
def capture(
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="The folder to write to, such as tests/fixtures.")],
    connection: Annotated[str | None, typer.Option(help="Of this connection only.")] = None,
    topic: Annotated[str | None, typer.Option(help="Of this topic only, such as orders/paid.")] = None,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """Write stored calls as fixtures, with what belongs to people or is secret replaced; exit code 1 if one does not parse."""
    from hub.cli.capturing import capture_deliveries

    captured = run(capture_deliveries(to, connection=connection, topic=topic, most=limit))
    if as_json:
        print_json([vars(one) for one in captured])
    elif not captured:
        note("no deliveries; `hub deliveries` lists what there is")
    else:
        for one in captured:
            say(f"{one.file}: {', '.join(one.events) or 'no event'}")
            say(*(f"  {kind} masked in {', '.join(places)}" for kind, places in one.masked.items()))
            if one.problem:
                say(f"  {one.problem}", style="red")
        say("Look through them before you give them to anybody: a program does not know everything that is personal.")
    if any(one.problem for one in captured):
        raise typer.Exit(1)


# -- contacts ----------------------------------------------------------------------------------------------------------


@contacts.command("list")
def list_contacts(limit: Limit = 50, before: Before = None, as_json: AsJson = False) -> None:
    """People, newest first."""
    from hub.store import views

    columns = {
        "id": "contact",
        "email": "e-mail",
        "phone": "phone",
        "first_name": "first name",
        "last_name": "last name",
    }
    rows = read(lambda c: views.list_contacts(c, before=before, most=limit))
    show_list(rows, columns, as_json=as_json, empty="nobody is known yet", limit=limit)


@contacts.command("show")
def show_contact(
    who: Annotated[str, typer.Argument(metavar="ID|EMAIL|PHONE")],
    as_json: AsJson = False,
) -> None:
    """A person: identities, consent, runs, and everything that happened and was decided, in time."""
    from hub.store import views

    async def find(c: Connection) -> shown.Contact:
        return await views.show_contact(c, await views.find_contact(c, who))

    found = read(find)
    if as_json:
        print_json(found)
        return
    sections = {"identities", "consent", "runs", "messages", "not_started", "forgetting", "merges", "timeline"}
    show_record(found, {key: key.replace("_", " ") for key in found if key not in sections})
    _section("Identities", found["identities"], {"kind": "kind", "value": "value"})
    consent = {"channel": "channel", "address": "address", "purpose": "purpose", "state": "state", "reason": "reason"}
    _section("Consent", found["consent"], {**consent, "source": "source", "at": "at (UTC)"})
    _section("Runs", found["runs"], _RUN)
    moments = {"at": "at (UTC)", "what": "what", "about": "about", "reason": "reason"}
    _section("Timeline", found["timeline"], moments)


def _section(title: str, rows: Sequence[Mapping[str, Json]], columns: Mapping[str, str]) -> None:
    if rows:
        show_table(rows, columns, title=title)
