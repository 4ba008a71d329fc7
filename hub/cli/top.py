"""`hub top`: a live view of the whole hub in the terminal."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from hub.cli.entry import RUNNING_FILE, api_key, current_settings, local_url, open_existing_store, run
from hub.cli.output import AsJson, console, counted, plain, print_json
from hub.errors import ConfigError, HubError

if TYPE_CHECKING:
    from collections.abc import Awaitable

    import aiohttp

    from hub.events import Json
    from hub.store.session import Store

    Read = Callable[[], Awaitable[Mapping[str, Json]]]

_EVERY_S = 1.0
# Processes give signs of life every five seconds; over two of them what they counted is even.
_WINDOW_S = 10.0
_ANSWER_S = 5.0
_PANEL = "Look"


def add_to(app: typer.Typer) -> None:
    """Add this command to the command line."""
    app.command(rich_help_panel=_PANEL)(top)


def top(
    once: Annotated[bool, typer.Option("--once", help="Show it once and leave.")] = False,
    as_json: AsJson = False,
) -> None:
    """A live view: who is at work, what is due, late or parked, the runs that wait, and each connection. Ends on q."""
    if as_json and not once:
        raise typer.BadParameter("--json goes with --once")
    run(_once(as_json) if once else _live())


async def _once(as_json: bool) -> None:
    async with _reader() as read:
        history = History()
        history.add(await read())
        await asyncio.sleep(_EVERY_S)
        history.add(await read())
    if as_json:
        print_json({**history.newest, "per_s": history.per_s()})
    else:
        console().print(picture(history))


async def _live() -> None:
    out, history = console(), History()
    async with _reader() as read:
        history.add(await read())
        with (
            _quit_key() as quit_,
            Live(picture(history), console=out, screen=out.is_terminal, auto_refresh=False) as live,
        ):
            while not quit_.is_set():
                try:
                    async with asyncio.timeout(_EVERY_S):
                        await quit_.wait()
                except TimeoutError:
                    await _again(read, history)
                    live.update(picture(history), refresh=True)


async def _again(read: Read, history: History) -> None:
    """One more reading; while there is none the view says why and keeps the last."""
    try:
        history.add(await read())
        history.trouble = ""
    except HubError as error:
        history.trouble = str(error)


@contextmanager
def _quit_key() -> Iterator[asyncio.Event]:
    """Set by the key q or by Ctrl-C; leaves the terminal as it was."""
    import signal

    quit_, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, quit_.set)
    if not sys.stdin.isatty():
        yield quit_
        return
    import termios
    import tty

    def pressed() -> None:
        if sys.stdin.read(1) in {"q", "Q", "\x03", ""}:
            quit_.set()

    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    loop.add_reader(sys.stdin, pressed)
    try:
        yield quit_
    finally:
        loop.remove_reader(sys.stdin)
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


# -- where it comes from -----------------------------------------------------------------------------------------------


@asynccontextmanager
async def _reader() -> AsyncIterator[Read]:
    """Reads the running hub's own word where this machine has its key, else the database. Raises StoreError when there is neither."""
    import aiohttp

    settings = current_settings()
    async with AsyncExitStack() as stack:
        if settings.embedded and (settings.data_dir / RUNNING_FILE).exists():
            limit = aiohttp.ClientTimeout(total=_ANSWER_S)
            headers = {"Authorization": f"Bearer {api_key(settings)}"}
            session = await stack.enter_async_context(aiohttp.ClientSession(timeout=limit, headers=headers))
            url = f"{local_url(settings)}/api/v1/vitals"
            # A hub that was killed leaves the file behind: then the database is asked.
            if await _answers(session, url):
                yield lambda: _ask(session, url)
                return
        store = await stack.enter_async_context(open_existing_store())
        yield lambda: _look(store, development=settings.development)


async def _answers(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        await _ask(session, url)
    except ConfigError:
        return False
    return True


async def _ask(session: aiohttp.ClientSession, url: str) -> dict[str, Json]:
    import aiohttp

    try:
        async with session.get(url) as answer:
            body = await answer.json(content_type=None)
            if answer.status == 200:
                return dict(body)
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise ConfigError(f"the hub at {url} does not answer ({type(error).__name__}); see its log") from error
    raise ConfigError(f"the hub at {url} answered {answer.status}: {body.get('detail', '')}")


async def _look(store: Store, *, development: bool) -> Mapping[str, Json]:
    from hub.clock import Clock
    from hub.store import pulse
    from hub.timetravel import HubTime

    clock = Clock()
    await HubTime(store, clock, development=development).sync()
    async with store.read() as c:
        found = await pulse.read(c, now_ms=clock.now_ms(), real_ms=int(time.time() * 1000))
    return pulse.view(found)


# -- what it says ------------------------------------------------------------------------------------------------------


@dataclass
class History:
    """The readings of the last seconds, newest last, each with the instant at which it was made (monotonic)."""

    readings: deque[tuple[float, Mapping[str, Json]]] = field(default_factory=deque)
    trouble: str = ""

    def add(self, reading: Mapping[str, Json], at: float | None = None) -> None:
        """One more."""
        at = time.monotonic() if at is None else at
        self.readings.append((at, reading))
        while self.readings[0][0] < at - _WINDOW_S and len(self.readings) > 2:
            self.readings.popleft()

    @property
    def newest(self) -> Mapping[str, Json]:
        """The last one."""
        return self.readings[-1][1]

    def per_s(self) -> dict[str, Json]:
        """What was counted per second over the window; `effects` by outcome. A process that ended counts for nothing."""
        (began, first), (ended, last) = self.readings[0], self.readings[-1]
        took = max(ended - began, 0.001)
        old, new = first["totals"], last["totals"]
        rates = {name: _rate(new[name] - old[name], took) for name in new if name != "effects"}
        effects = {name: _rate(count - old["effects"].get(name, 0), took) for name, count in new["effects"].items()}
        return {**rates, "effects": effects}


def _rate(count: int, seconds: float) -> float:
    return round(max(0, count) / seconds, 1)


def picture(history: History) -> Group:
    """The newest reading as a screen of at most 100 columns."""
    seen, per_s = history.newest, history.per_s()
    effects = ", ".join(f"{name} {rate}/s" for name, rate in sorted(per_s["effects"].items())) or "none yet"
    about = "about " if seen["waiting_estimated"] else ""
    parked = ", ".join(f"{on} {count:,}" for on, count in sorted(seen["parked"].items())) or "nothing"
    lines = {
        "came in": f"{per_s['deliveries']}/s calls, {per_s['events']}/s events routed; oldest unrouted {_span(seen['ingest_lag_s'])} ({seen['unrouted']:,})",
        "runs": f"{per_s['runs_started']}/s started, {per_s['runs_finished']}/s finished",
        "effects": effects,
        "due": f"{seen['due']:,}; the oldest for {_span(seen['oldest_due_s'])}",
        "waiting": f"{about}{counted(seen['waiting'], 'run')}",
        "parked": parked,
        "unknown": f"{seen['unknown_last_day']:,} outcomes in the last day",
    }
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="bold cyan", no_wrap=True)
    grid.add_column(overflow="fold")
    for title, words in lines.items():
        grid.add_row(title, Text(plain(words), style=_style(title, seen)))
    return Group(_head(history), grid, Text(), _processes(seen), Text(), _connections(seen))


def _head(history: History) -> Text:
    if history.trouble:
        return Text(plain(f"Tetik Hub: {history.trouble}\n"), style="bold red")
    if not history.newest["processes"]:
        return Text(
            "Tetik Hub: no hub is at work; start `hub up`, or `hub api` and `hub worker`. This is what is stored.\n",
            style="bold yellow",
        )
    return Text("Tetik Hub (q ends)\n", style="bold")


def _style(title: str, seen: Mapping[str, Json]) -> str:
    worrying = {
        "came in": seen["ingest_lag_s"] > 60,
        "due": seen["oldest_due_s"] > 60,
        "parked": bool(seen["parked"]),
        "unknown": seen["unknown_last_day"] > 0,
    }
    return "yellow" if worrying.get(title) else ""


def _processes(seen: Mapping[str, Json]) -> Table:
    table = _table("process", "version", "up", "last sign", "in hand")
    for process in seen["processes"]:
        in_hand = f"{process['busy']}/{process['slots']}" if process["kind"] != "api" else ""
        table.add_row(
            f"{process['kind']} {process['id'][-8:]}",
            process["version"],
            _span(process["up_s"]),
            _span(process["seen_s"]),
            in_hand,
        )
    return table


def _connections(seen: Mapping[str, Json]) -> Table:
    table = _table("connection", "health", "in flight", "held for", "breaker", "due", "oldest")
    for one in seen["connections"]:
        table.add_row(
            plain(one["name"]),
            one["health"],
            str(one["in_flight"] or ""),
            _span(one["held_s"]) if one["held_s"] else "",
            "" if one["breaker"] == "closed" else one["breaker"],
            f"{one['due']:,}" if one["due"] else "",
            _span(one["oldest_due_s"]) if one["due"] else "",
        )
    return table


def _table(*titles: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold cyan")
    for title in titles:
        table.add_column(title, overflow="fold")
    return table


def _span(seconds: float) -> str:
    from hub.clock import format_duration

    return format_duration(int(seconds) * 1000) if seconds >= 1 else f"{seconds:.1f}s"
