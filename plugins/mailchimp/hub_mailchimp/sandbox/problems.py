"""How the Marketing stand-in refuses: problems with titles, as the vendor's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from hub_mailchimp.sandbox.state import Account, Row

Handle = Callable[[web.Request, Account], Awaitable[web.Response]]


def problem(status: int, title: str, detail: str, *fields: str) -> web.Response:
    """An error's answer."""
    body = {
        "type": "https://mailchimp.com/developer/marketing/docs/errors/",
        "title": title,
        "status": status,
        "detail": detail,
        "instance": "995c5cb0-3280-4a6e-808b-3b096d0bb219",
        **({"errors": [{"field": field, "message": "is not right"} for field in fields]} if fields else {}),
    }
    return web.json_response(body, status=status, content_type="application/problem+json")


class Refused(Exception):
    """A call that is answered with a problem."""

    def __init__(self, status: int, title: str, detail: str = "", *fields: str) -> None:
        super().__init__(title)
        self.answer = problem(status, title, detail or title, *fields)


def required(body: Row, *names: str) -> None:
    """Refuse a body that lacks one of these."""
    if missing := [name for name in names if body.get(name) in (None, "")]:
        raise Refused(400, "Invalid Resource", "The resource submitted could not be validated.", *missing)


def moment(query: Any, name: str) -> str:  # Any: aiohttp's own mapping
    """A time of the query, as rows hold theirs; empty when it is not given. Fractions break the real API, and this one."""
    given = str(query.get(name, ""))
    if "." in given:
        raise Refused(500, "Internal Server Error")
    return given.replace("Z", "+00:00")
