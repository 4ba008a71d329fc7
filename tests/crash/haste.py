"""The made-up vendor as real processes load it: with time limits that suit a lease of seconds, and, if asked, a wrong clock.

It writes what it is told down in the file that `CRASH_TOLD` names; without one it wants to know nothing.
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

from aiohttp import web

import hub.connections.tokens
from hub import hookimpl, seams
from tests.acme import AcmeSandbox, acme, hub_register_connectors

__all__ = ["hub_register_connectors"]

CALL_LIMIT_S = 1.0
LINGER_S = 0.5
# Nobody answers a request for a token here later than the vendor's other calls.
hub.connections.tokens._RENEW_LEASE_S = 4.0

for _action in acme.actions.values():
    _action.timeout_s = CALL_LIMIT_S
    if _action.batch is not None:
        _action.batch = replace(_action.batch, linger_s=LINGER_S)

if _told := os.environ.get("CRASH_TOLD"):
    # A line that is written in one go is whole, whoever else writes.
    _file = os.open(_told, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    @hookimpl
    def hub_event_received(event_id: str) -> None:
        os.write(_file, f"event {event_id}\n".encode())

    @hookimpl
    def hub_after_effect(action: str, run_id: str, outcome: str) -> None:
        os.write(_file, f"effect {run_id} {action} {outcome}\n".encode())

    @hookimpl
    def hub_run_finished(run_id: str, ended_by: str) -> None:
        os.write(_file, f"run {run_id} {ended_by}\n".encode())


if _seam := os.environ.get("CRASH_SEAM"):

    def _arm(number: int, frame: object) -> None:
        """A process at work takes up what the file says; that it is gone says that it has."""
        file = Path(_seam)
        seams.arm(file.read_text())
        file.unlink()

    signal.signal(signal.SIGUSR1, _arm)


def _throttled(self: AcmeSandbox) -> web.Response:
    return web.Response(status=429, headers={"Retry-After": "1"})


AcmeSandbox.throttled = _throttled  # type: ignore[method-assign]  # half a minute is too long for tests in haste

if _ahead_s := float(os.environ.get("CRASH_CLOCK_AHEAD_S", "0")):
    # A machine whose clock is wrong: only a process's own time can be, so it is done where the process begins.
    _right = time.time
    time.time = lambda: _right() + _ahead_s
