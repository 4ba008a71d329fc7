"""Plugins that take part: each has a thread of its own, so that one that raises, hangs or floods holds nobody else up."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from hub.errors import HookFailed

THREAD = "plugin "
"""What the name of such a thread begins with; the plugin's name follows."""

_END_S = 1.0


class Guest:
    """One plugin's thread and event loop, begun when it is first asked. Its hooks run there one beside the other."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._open: set[object] = set()
        self._late: object | None = None

    async def ask(self, hook: str, function: Callable[..., Any], arguments: Mapping[str, Any], limit_s: float) -> Any:
        """Call a hook and wait for its answer. Raises HookFailed when it raises, or does not come back in time.

        Its time counts from when its thread takes it up: what is asked side by side may have to wait in line. While a call
        that was given up still runs, no other is begun.
        """
        if self._late in self._open:
            raise HookFailed(self._name, hook, "an earlier call has not come back yet")
        call, here = object(), asyncio.get_running_loop()
        answer: asyncio.Future[Any] = here.create_future()
        tasks: list[asyncio.Task[Any]] = []
        # When the plugin's thread took the call up, and when it was done with it.
        times: list[float] = []
        there = self._running_loop()

        def begin() -> None:
            task = there.create_task(_run(function, arguments, times))
            tasks.append(task)
            task.add_done_callback(end)

        def end(task: asyncio.Task[Any]) -> None:
            self._open.discard(call)
            with suppress(RuntimeError):  # whoever asked is gone
                here.call_soon_threadsafe(_settle, answer, task)

        self._open.add(call)
        there.call_soon_threadsafe(begin)
        try:
            rest_s = limit_s
            while rest_s > 0 and not (await asyncio.wait((answer,), timeout=rest_s))[0]:
                if not times and self._late in self._open:
                    raise HookFailed(self._name, hook, "an earlier call has not come back yet")
                # The answer of one that is done stands behind whatever else the thread has taken up.
                rest_s = times[0] + limit_s - time.monotonic() if len(times) == 1 else limit_s
            if not answer.done():
                self._late = call
                raise HookFailed(self._name, hook, f"it did not come back within {limit_s:g} s")
        finally:
            if not answer.done():
                answer.cancel()
                there.call_soon_threadsafe(lambda: [task.cancel() for task in tasks])
        try:
            return answer.result()
        except Exception as error:  # a plugin may raise anything
            raise HookFailed(self._name, hook, f"it raised {type(error).__name__}") from error

    def close(self) -> None:
        """End the thread, unless it hangs: then it ends with the process."""
        if self._loop is None or self._thread is None:
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(0 if self._late in self._open else _END_S)
        self._loop = self._thread = None

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(
                target=_serve, args=(self._loop,), name=f"{THREAD}{self._name}", daemon=True
            )
            self._thread.start()
        return self._loop


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
    finally:
        loop.close()


async def _run(function: Callable[..., Any], arguments: Mapping[str, Any], times: list[float]) -> Any:
    times.append(time.monotonic())
    try:
        answer = function(**arguments)
        return await answer if inspect.isawaitable(answer) else answer
    except (SystemExit, KeyboardInterrupt) as error:
        raise RuntimeError("it tried to end the process") from error
    finally:
        times.append(time.monotonic())


def _settle(answer: asyncio.Future[Any], task: asyncio.Task[Any]) -> None:
    """Hand the outcome of a call to whoever asked, if somebody still waits for it."""
    error = None if task.cancelled() else task.exception()
    if answer.done():
        return
    if task.cancelled():
        answer.set_exception(RuntimeError("it cancelled itself"))
    elif error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(task.result())
