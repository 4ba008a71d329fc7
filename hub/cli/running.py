"""The processes themselves: what each starts, in which order, and how a signal ends it."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

from fastapi import FastAPI

from hub.api.app import make_app, make_probes
from hub.api.serving import answering
from hub.apikeys import create_api_key
from hub.cli.entry import API_KEY_FILE, RUNNING_FILE, local_url
from hub.cli.output import say
from hub.clock import Clock
from hub.errors import ConfigError, StoreError, StoreUnavailable
from hub.oneprocess import OneProcess
from hub.plugins import Plugins, load_plugins
from hub.process import (
    Hub,
    guarding,
    here,
    make_traces,
    open_hub,
    open_store,
    receiving,
    sandboxes,
    working,
)
from hub.settings import Settings
from hub.testing.sandbox import SandboxServer
from hub.timetravel import HubTime

_LOCAL_KEY = "local"
_BACKLOG = 2048
# After how many new objects the garbage collector looks through the youngest.
_GARBAGE = 20_000

# The longest that a sandbox waits for the time of its hub.
_HUB_TIME_S = 1.0
_log = logging.getLogger(__name__)


async def up(settings: Settings, *, with_sandboxes: bool) -> None:
    """The embedded hub: sandboxes, API and worker in this process, until SIGTERM or SIGINT."""
    if not settings.embedded:
        raise ConfigError(
            "hub up runs on a SQLite file; on this database run `hub api` and `hub worker`, or unset HUB_DATABASE_URL"
        )
    stop = _stop_on_signal()
    async with AsyncExitStack() as stack:
        listener = stack.enter_context(_listen(settings.host, settings.port))
        sandbox_port = settings.port + 1 if settings.port else 0
        settings = settings.model_copy(update={"port": listener.getsockname()[1]})
        stack.enter_context(OneProcess(settings))
        plugins, clock = load_plugins(), Clock()
        if with_sandboxes and settings.sandbox_url is None:
            server = await stack.enter_async_context(_sandboxes(plugins, clock, "127.0.0.1", sandbox_port))
            settings = settings.model_copy(update={"sandbox_url": server.url})
        hub = await stack.enter_async_context(
            open_hub(settings, plugins=plugins, clock=clock, upgrade=True, traces=make_traces(os.environ))
        )
        key_file = await _local_key(hub)
        await stack.enter_async_context(receiving(hub))
        await stack.enter_async_context(working(hub, "up", ended=stop.set))
        await stack.enter_async_context(guarding(hub))
        stack.enter_context(_findable(settings))
        app = make_app(hub)
        _keep_what_is_loaded()
        _greet(hub, key_file)
        await _serve(app, listener, settings, stop)


async def api(settings: Settings) -> None:
    """The HTTP side of a distributed hub, until SIGTERM or SIGINT."""
    _require_server(settings, "hub api")
    stop = _stop_on_signal()
    with _listen(settings.host, settings.port) as listener:
        settings = settings.model_copy(update={"port": listener.getsockname()[1]})
        traces = make_traces(os.environ)
        async with open_hub(settings, traces=traces) as hub, here(hub, "api"), hub.limits.kept(), receiving(hub):
            app = make_app(hub)
            _keep_what_is_loaded()
            say(f"the API answers at {local_url(settings)}")
            await _serve(app, listener, settings, stop)


async def worker(settings: Settings) -> None:
    """One worker of a distributed hub, until SIGTERM or SIGINT."""
    _require_server(settings, "hub worker")
    stop = _stop_on_signal()
    async with AsyncExitStack() as stack:
        port = settings.metrics_port
        listener = stack.enter_context(_listen(settings.host, port)) if port is not None else None
        traces = make_traces(os.environ)
        hub = await stack.enter_async_context(open_hub(settings, quarantine=True, traces=traces))
        await stack.enter_async_context(working(hub, ended=stop.set))
        await stack.enter_async_context(guarding(hub))
        _keep_what_is_loaded()
        say(
            "working; rung by Redis" if settings.redis_url else "working; looks once a second, HUB_REDIS_URL is not set"
        )
        if listener is None:
            await stop.wait()
        else:
            say(f"health and metrics at {local_url(settings.model_copy(update={'port': listener.getsockname()[1]}))}")
            await _serve(make_probes(hub), listener, settings, stop)


async def sandbox(settings: Settings, host: str, port: int) -> None:
    """All sandboxes on one port, until SIGTERM or SIGINT. In development mode they go by the time of the settings' hub."""
    stop, clock = _stop_on_signal(), Clock()
    async with AsyncExitStack() as stack:
        hubs = _HubsTime(settings, clock)
        stack.push_async_callback(hubs.close)
        look = hubs.look if settings.development else None
        server = await stack.enter_async_context(_sandboxes(load_plugins(), clock, host, port, before=look))
        say(f"sandboxes of {', '.join(server.sandboxes) or 'no connector'} at {server.url}")
        await stop.wait()


class _HubsTime:
    """Keeps a clock on the time of the hub whose store the settings name, also of one that comes up later.

    Until there is a store, and while it is away, the clock goes on as it is; the log says so once.
    """

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings, self._clock = settings, clock
        self._file = settings.data_dir / "hub.db" if settings.database_url is None else None
        self._opening = asyncio.Lock()
        self._open = AsyncExitStack()
        self._time: HubTime | None = None
        self._said = ""

    async def look(self) -> None:
        """Read the time as it is now."""
        if self._file is not None and not self._file.exists():
            return
        try:
            # A database that says nothing must not keep a vendor from answering.
            async with asyncio.timeout(_HUB_TIME_S):
                async with self._opening:
                    if self._time is None:
                        store = await self._open.enter_async_context(open_store(self._settings, pool=2))
                        self._time = HubTime(store, self._clock, development=True)
                await self._time.sync()
            self._said = ""
        except (StoreError, StoreUnavailable, TimeoutError) as error:
            if self._said != str(error):
                self._said = str(error)
                facts = {"what": "hub_time_unread", "error": str(error)}
                _log.warning(
                    "the sandboxes' time goes on without the hub's; it is read again at each call", extra=facts
                )

    async def close(self) -> None:
        """Close the store, if it was opened."""
        await self._open.aclose()


def _require_server(settings: Settings, command: str) -> None:
    if settings.embedded:
        raise ConfigError(
            f"{command} needs PostgreSQL: set HUB_DATABASE_URL=postgresql://…; on one machine `hub up` runs everything"
        )


def _keep_what_is_loaded() -> None:
    """What a process has loaded stays for good: looking through all of it for garbage, over and over, takes 0.1 s each.

    A run leaves hundreds of objects that end by themselves; looking for circles at every 700 of them is work in vain.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GARBAGE, 10, 10)


# -- serving -----------------------------------------------------------------------------------------------------------


async def _serve(app: FastAPI, listener: socket.socket, settings: Settings, stop: asyncio.Event) -> None:
    """Answer calls until `stop` is set, then those that have begun."""
    async with answering(app, listener, drain_s=settings.drain_s, proxies=settings.proxies) as serving:
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait({stopped, serving}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()


def _stop_on_signal() -> asyncio.Event:
    """Set by the first SIGTERM or SIGINT; the second ends the process at once."""
    stop = asyncio.Event()

    def on_signal(number: int) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, on_signal, int(number))
    return stop


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises ConfigError when the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise _no_address(host, port, error) from error


@asynccontextmanager
async def _sandboxes(
    plugins: Plugins, clock: Clock, host: str, port: int, *, before: Callable[[], Awaitable[None]] | None = None
) -> AsyncIterator[SandboxServer]:
    """The sandboxes, listening; `before` is awaited before each call. Raises ConfigError when the address cannot be had."""
    async with AsyncExitStack() as stack:
        try:
            server = await stack.enter_async_context(sandboxes(plugins, clock, host=host, port=port, before=before))
        except OSError as error:
            raise _no_address(host, port, error) from error
        yield server


def _no_address(host: str, port: int, error: OSError) -> ConfigError:
    reason = (error.strerror or str(error)).lower()
    return ConfigError(f"cannot listen on {host} port {port}: {reason}; choose another with --port or --host")


# -- the embedded hub's files ------------------------------------------------------------------------------------------


async def _local_key(hub: Hub) -> Path:
    """The file with this machine's API key, made on the first start."""
    file = hub.settings.data_dir / API_KEY_FILE
    async with hub.store.write() as c:
        made = await c.first("select count(*) as n from api_key")
        assert made is not None, "an aggregate always has a row"
        if made["n"] and file.exists():
            return file
        # The file was lost, so nobody holds the key any more.
        await c.run("delete from api_key where name = :name", name=_LOCAL_KEY)
    _write_secret(file, await create_api_key(hub.store, _LOCAL_KEY, "write", hub.clock.now_ms()))
    return file


def _write_secret(file: Path, secret: str) -> None:
    """A new file that only its owner can read."""
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(f"{secret}\n")


@contextmanager
def _findable(settings: Settings) -> Iterator[None]:
    """Tell commands on this machine where the hub listens while it runs."""
    file = settings.data_dir / RUNNING_FILE
    file.write_text(json.dumps({"host": settings.host, "port": settings.port, "sandbox_url": settings.sandbox_url}))
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def _greet(hub: Hub, key_file: Path) -> None:
    url, names = local_url(hub.settings), sorted(hub.plugins.catalogue.connectors)
    say(
        f"Tetik Hub is running at {url}",
        f"  API key     {key_file}",
        f"  connectors  {', '.join(names) or 'none yet; install one, such as `pip install tetik-hub-shopify`'}",
        f"  sandboxes   {hub.settings.sandbox_url or 'not running'}",
        f'  try         curl -H "Authorization: Bearer $(cat {key_file})" {url}/api/v1/counts',
        "  next        hub connections add CONNECTOR NAME --sandbox, then hub recipes apply FILE --publish",
        "Stop with Ctrl+C.",
    )
