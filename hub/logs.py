"""Logging: one JSON object a line, ids and never people. What users must see goes to the run's trace instead."""

from __future__ import annotations

import json
import logging
import traceback
from datetime import UTC, datetime
from types import TracebackType

from hub.errors import HubError
from hub.guests import THREAD

_STANDARD = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
# These log whole URLs, statements or messages, which can hold what people sent; the last is Dramatiq's of each ring.
_NOISY = (
    "httpx",
    "aiohttp.access",
    "sqlalchemy.engine",
    "alembic",
    "uvicorn.access",
    "dramatiq",
    "hub.worker.bell.ring",
)

_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class Discreet(logging.Formatter):
    """Formats a traceback without the words of errors that are not ours: databases and parsers repeat what they were given."""

    def formatException(self, ei: _ExcInfo) -> str:  # noqa: N802  (the name that logging calls)
        return "\n".join(_told(error) for error in _chain(ei[1]))


class JsonLines(Discreet):
    """Formats a record as JSON: time, level, logger, message, then the facts given in `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        facts = {name: value for name, value in vars(record).items() if name not in _STANDARD}
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **facts,
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def _chain(error: BaseException | None) -> list[BaseException]:
    """An error and what it came of, the first cause first."""
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.insert(0, error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return found


def _told(error: BaseException) -> str:
    words = f": {error}" if isinstance(error, HubError) else ""
    frames = (f'  File "{f.filename}", line {f.lineno}, in {f.name}' for f in traceback.extract_tb(error.__traceback__))
    return "\n".join(["Traceback (most recent call last):", *frames, f"{type(error).__qualname__}{words}"])


class Sparing(logging.Filter):
    """Lets so many lines a minute of each plugin's own thread through, so that one that logs without end fills no disk."""

    def __init__(self, most: int = 600) -> None:
        super().__init__()
        self._most = most
        self._minutes: dict[str, tuple[int, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        name = record.threadName or ""
        if not name.startswith(THREAD):
            return True
        minute = int(record.created // 60)
        at, lines = self._minutes.get(name, (minute, 0))
        lines = lines + 1 if at == minute else 1
        self._minutes[name] = (minute, lines)
        if lines == self._most:
            record.msg, record.args = f"{record.getMessage()} (more of this plugin is left out for a minute)", ()
        return lines <= self._most


def setup_logging(level: str, *, json_lines: bool) -> None:
    """Send the process's logs to standard error. Called once by the composition root.

    Below INFO only the hub's own lines are let through: libraries tell every statement and message at DEBUG.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if json_lines else Discreet("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    handler.addFilter(Sparing())
    own = logging.getLevelNamesMapping()[level.upper()]
    logging.basicConfig(level=max(own, logging.INFO), handlers=[handler], force=True)
    logging.getLogger("hub").setLevel(own)
    for noisy in _NOISY:
        logging.getLogger(noisy).setLevel(logging.WARNING)
