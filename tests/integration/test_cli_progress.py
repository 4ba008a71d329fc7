"""Commands that may take long say what they are at: to people at a terminal, and to nobody else."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hub.store import migrate
from hub.store.session import Store
from hub.vault import generate_key
from tests.integration.conftest import Cli

_LIMIT_S = 60
# Each step is slow, so that a line that is drawn a few times a second has the time to show it.
_SLOWLY = """
import time
from contextlib import contextmanager
from hub.cli import database, main, operate, output
shown = output.progress
@contextmanager
def slow(first):
    with shown(first) as tell:
        def told(now):
            tell(now)
            time.sleep(0.3)
        yield told
database.progress = operate.progress = slow
main()
"""


def _at_a_terminal(command: list[str]) -> tuple[int, str, str]:
    """A command whose standard error is a terminal: its exit code, its answer, and what was seen meanwhile."""
    theirs, ours = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", _SLOWLY, *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=ours,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
    ) as running:
        os.close(ours)
        seen, until = b"", time.monotonic() + _LIMIT_S
        while time.monotonic() < until:
            if not select.select([theirs], [], [], 1)[0]:
                continue
            try:
                part = os.read(theirs, 4096)
            except OSError:  # the terminal is gone with the last who wrote to it
                break
            if not part:
                break
            seen += part
        assert running.stdout is not None
        answer = running.stdout.read().decode()
        code = running.wait(_LIMIT_S)
    os.close(theirs)
    return code, answer, seen.decode()


@pytest.fixture
def older(empty_cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub of an older release with credentials under an older key."""
    old, new = generate_key(), generate_key()
    monkeypatch.setenv("HUB_KEYS", old)
    assert empty_cli("db", "upgrade").exit_code == 0
    for n in range(3):
        shop = ("--set", f"shop=shop-{n}.myshopify.com", "--sandbox")
        assert empty_cli("connections", "add", "shopify", f"shop-{n}", *shop).exit_code == 0
    assert empty_cli("db", "downgrade", "--to", "0003", "--yes").exit_code == 0
    monkeypatch.setenv("HUB_KEYS", f"{new},{old}")


_STEPS = {
    "db upgrade": ["upgrading the schema", "copying ", "the schema is at 0004"],
    "db check": ["looking at everything", "1 of 3: the database itself", "3 of 3: what must be true"],
    "keys rotate": ["sealed again: 1 of 3", "sealed again: 3 of 3"],
}


@pytest.mark.usefixtures("older")
def test_what_takes_long_says_what_it_is_at_on_a_terminal() -> None:
    for command, steps in _STEPS.items():
        code, answer, seen = _at_a_terminal(command.split())
        assert code == 0, seen
        assert [step for step in steps if step not in seen] == [], seen
        assert not any(step in answer for step in steps)


@pytest.mark.usefixtures("older")
def test_a_pipe_gets_the_answer_and_nothing_else() -> None:
    for command in _STEPS:
        done = subprocess.run(
            [sys.executable, "-c", _SLOWLY, *command.split()], capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert not any(step in done.stdout for step in _STEPS[command])


async def test_each_revision_is_told_when_it_is_reached(tmp_path: Path) -> None:
    store, told = Store(f"sqlite:///{tmp_path / 'hub.db'}", pool=1), list[str]()
    try:
        await migrate.upgrade(store, progress=told.append)
    finally:
        await store.close()
    assert told[0] == "the schema is at 0001"
    assert len(told) >= 4
