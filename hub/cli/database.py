"""Commands for the database: its schema, and what lies in it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hub.cli.entry import bare_store, current_settings, require_database, run, with_hub
from hub.cli.output import AsJson, confirm, print_json, progress, say, show_list, show_record, without_password

if TYPE_CHECKING:
    from hub.events import Json
    from hub.settings import Settings
    from hub.store.copying import Copied, Progress
    from hub.store.invariants import Finding
    from hub.store.revisions import SchemaStatus

database = typer.Typer(help="The database: its schema, and what lies in it.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.add_typer(database, name="db", rich_help_panel="Operate")


@database.command("status")
def status(as_json: AsJson = False) -> None:
    """The schema that the database has, and the one that this release needs."""

    async def find() -> tuple[str, SchemaStatus]:
        from hub.store import revisions

        settings = current_settings()
        require_database(settings)
        async with bare_store(settings) as store:
            return store.dialect, await revisions.status(store)

    dialect, found = run(find())
    shown = _status_view(dialect, found)
    if as_json:
        print_json(shown)
        return
    show_record(
        {**shown, "current": found.current or "empty"},
        {"database": "database", "current": "schema", "needed": "needed", "behind": "missing", "ready": "ready"},
    )
    if not found.ready:
        say("run `hub db upgrade`")


def _status_view(dialect: str, found: SchemaStatus) -> dict[str, Json]:
    return {
        "database": dialect,
        "current": found.current,
        "needed": found.needed,
        "behind": list(found.behind),
        "ready": found.ready,
    }


@database.command("upgrade")
def upgrade(as_json: AsJson = False) -> None:
    """Bring the schema to what this release needs."""

    async def act(tell: Callable[[str], None]) -> tuple[str, SchemaStatus]:
        from hub.process import open_store
        from hub.store import migrate, revisions

        settings = current_settings()
        with _alone(settings):
            if settings.embedded:
                # As the embedded hub does when it starts: with a copy of the file beside it.
                async with open_store(settings, upgrade=True, progress=tell) as store:
                    return store.dialect, await revisions.status(store)
            async with bare_store(settings) as store:
                # Says first whether the database answers and belongs to no newer release.
                await revisions.status(store)
                await migrate.upgrade(store, progress=tell)
                return store.dialect, await revisions.status(store)

    with progress("upgrading the schema") as tell:
        dialect, found = run(act(tell))
    if as_json:
        print_json(_status_view(dialect, found))
    else:
        say(f"the database is at {found.current}")


@database.command("downgrade")
def downgrade(
    to: Annotated[
        str, typer.Option("--to", metavar="REV", help="The revision to go back to; base removes all tables.")
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Take the schema back; what the older one cannot hold is lost."""
    confirm(f"Going back to {to} loses what that schema cannot hold. Go on?", yes=yes, why="this may lose data")

    async def act() -> tuple[str, SchemaStatus]:
        from hub.store import migrate, revisions

        settings = current_settings()
        require_database(settings)
        with _alone(settings):
            async with bare_store(settings) as store:
                await revisions.status(store)
                await migrate.downgrade(store, to)
                return store.dialect, await revisions.status(store)

    dialect, found = run(act())
    if as_json:
        print_json(_status_view(dialect, found))
    else:
        say(f"the database is {found.current or 'empty'} now")


@database.command("prune")
def prune(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what is too old.")] = False,
    now: Annotated[bool, typer.Option("--now", help="Remove it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove what is older than the HUB_KEEP_… settings say, as running hubs do each hour by themselves."""
    if dry_run == now:
        raise typer.BadParameter("choose --dry-run to count or --now to remove", param_hint="--dry-run / --now")
    with progress("looking") as tell:
        counted = 0

        def pruned(name: str, count: int) -> None:
            nonlocal counted
            counted += count
            tell(f"{name}: {counted:,} of all kinds so far")

        removed = with_hub(lambda hub: hub.retention.prune(dry=dry_run, progress=pruned))
    if as_json:
        print_json(removed)
        return
    rows = [{"kind": name, "count": count} for name, count in removed.items()]
    show_list(rows, {"kind": "kind", "count": "too old" if dry_run else "removed"}, as_json=False, empty="")


@database.command("check")
def check(as_json: AsJson = False) -> None:
    """Whether the database is sound: the file, the schema with its indexes, and what must be true of the rows.

    It may run beside a hub, and reads everything, so it takes its time. Exit code 1 when it finds something.
    """
    with progress("looking at everything") as tell:
        found = run(_checked(tell))
    if as_json:
        print_json([{"kind": f.kind, "refs": list(f.refs), "message": f.message, "mend": f.mend} for f in found])
    else:
        for finding in found:
            many = f" ({len(finding.refs)} found)" if len(finding.refs) > 1 else ""
            say(f"wrong    {finding.message}{many}", style="bold red")
            say(f"         mend: {finding.mend}")
        say(*([] if found else ["the database is sound"]))
    if found:
        raise typer.Exit(1)


async def _checked(tell: Callable[[str], None]) -> list[Finding]:
    from hub.store import soundness

    settings = current_settings()
    require_database(settings)
    async with bare_store(settings) as store:
        return await soundness.check(store, lease_ms=int(settings.lease_s * 1000), progress=tell)


@database.command("copy")
def copy(
    to: Annotated[str, typer.Option("--to", metavar="URL", help="postgresql://… or sqlite:///FILE, empty as yet.")],
    as_json: AsJson = False,
) -> None:
    """Copy the whole hub into an empty database of either kind, while no hub runs. It is copied wholly or not at all."""
    with progress("looking") as tell:
        copied = run(_copied(to, lambda table, rows: tell(f"{table}: {rows:,} rows")))
    total = sum(one.rows for one in copied)
    if as_json:
        print_json({"to": without_password(to), "rows": total, "tables": [vars(one) for one in copied]})
        return
    show_list(
        [vars(one) for one in copied],
        {"table": "table", "rows": "rows", "checksum": "checksum"},
        as_json=False,
        empty="",
    )
    say(
        f"{total:,} rows are the same on both sides; set HUB_DATABASE_URL to the new database, keep HUB_KEYS (or the file "
        "`keys` of the data directory) as it is, and start",
        "never start the old one again: both would do the same work",
    )


async def _copied(to: str, told: Progress) -> list[Copied]:
    from hub.clock import Clock
    from hub.store import copying
    from hub.store.session import Store

    settings = current_settings()
    require_database(settings)
    target = Store(to, pool=2)
    try:
        if target.in_memory:
            raise typer.BadParameter("a database in memory is gone at once; name a file", param_hint="--to")
        if target.file and not (folder := Path(target.file).parent).exists():
            raise typer.BadParameter(f"there is no folder {folder}", param_hint="--to")
        with _alone(settings):
            _require_empty_spool(settings)
            async with bare_store(settings, pool=2) as source:
                return await copying.copy(source, target, now_ms=Clock().now_ms(), progress=told)
    finally:
        await target.close()


def _require_empty_spool(settings: Settings) -> None:
    """Raise StoreError while deliveries wait outside the database: they would be left behind."""
    from hub.errors import StoreError
    from hub.segments import survey

    folder = settings.spool_folder()
    if folder is not None and (waiting := survey(folder).records):
        raise StoreError(
            f"deliveries wait in the spool and not in the database yet: {waiting}; start the hub on the old database until "
            "`hub doctor` says that nothing waits, stop it, and copy again"
        )


def _alone(settings: Settings) -> AbstractContextManager[None]:
    """Keeps the embedded hub away while its schema changes. Raises ConfigError when it runs."""
    from hub.oneprocess import OneProcess

    return OneProcess(settings) if settings.embedded else nullcontext()
