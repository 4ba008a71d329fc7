"""What `hub doctor` says: findings, and how a check that fails itself becomes one."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import StrEnum

from hub.errors import HubError

_log = logging.getLogger(__name__)


class State(StrEnum):
    """How serious a finding is."""

    OK = "ok"
    WARNING = "warning"
    WRONG = "wrong"


@dataclass(frozen=True)
class Finding:
    """What one check found; `mend` is a command or what to do, empty when nothing is to be done."""

    check: str
    state: State
    message: str
    mend: str = ""


async def found_by(check: str, looks: AsyncIterator[Finding]) -> list[Finding]:
    """Everything that a check finds; an error on the way is a finding, too, and no other check suffers from it."""
    found: list[Finding] = []
    try:
        async for finding in looks:
            found.append(finding)
    except HubError as error:
        found.append(Finding(check, State.WRONG, str(error), "mend that first, then `hub doctor`"))
    except Exception as error:  # the rim of one check: whatever it is, the others still look
        _log.exception("a check failed", extra={"what": "check_failed", "check": check})
        reason = str(error).partition("\n")[0]
        failed = f"the check itself failed ({type(error).__name__}: {reason})"
        found.append(Finding(check, State.WRONG, failed, "run `hub --debug doctor` and report what it prints"))
    return found
