"""How the Graph API answers: nodes with the fields that were asked for, pages of edges, and its errors."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

from aiohttp import web

Fields = dict[str, Any]  # a JSON object of Meta's


class GraphError(Exception):
    """A refusal as Meta writes it."""

    def __init__(self, code: int, message: str, *, subcode: int = 0, status: int = 400, **more: Any) -> None:
        super().__init__(message)
        self.code, self.subcode = code, subcode
        self.status = status
        self.more = more

    def response(self, headers: Mapping[str, str] | None = None) -> web.Response:
        """The whole answer."""
        trace = uuid4().hex[:20]
        error = {
            "message": f"(#{self.code}) {self}",
            "type": "OAuthException",
            "code": self.code,
            **({"error_subcode": self.subcode} if self.subcode else {}),
            **self.more,
            "fbtrace_id": trace,
        }
        return web.json_response(
            {"error": error}, status=self.status, headers={**(headers or {}), "x-fb-trace-id": trace}
        )


def hidden(id: str) -> GraphError:
    """What is said of everything that is not there, or not for this token."""
    return GraphError(
        100,
        f"Unsupported request. Object with ID '{id}' does not exist, cannot be loaded due to missing permissions",
        subcode=33,
    )


def invalid(message: str, *blamed: str, **more: Any) -> GraphError:
    """A wrong parameter."""
    data = {"error_data": {"blame_field_specs": [list(blamed)]}} if blamed else {}
    return GraphError(100, message, error_user_title="Invalid parameter", **{**data, **more})


def picked(node: Mapping[str, Any], fields: str | None, usual: Sequence[str]) -> Fields:
    """The fields of a node that were asked for and are there; without any the usual ones; the id always."""
    names = fields.split(",") if fields else usual
    return {name: node[name] for name in ("id", *names) if name in node}


def paged(nodes: Sequence[Fields], asked: Mapping[str, Any], usual: Sequence[str], url: str) -> Fields:
    """One page of nodes: `limit` (25) of them `after` a cursor, newest pages never repeating earlier ones."""
    start = next((at + 1 for at, one in enumerate(nodes) if one["id"] == asked.get("after")), 0)
    limit = int(asked.get("limit") or 25)
    page = nodes[start : start + limit]
    found: Fields = {"data": [picked(one, asked.get("fields"), usual) for one in page]}
    if page:
        found["paging"] = {"cursors": {"before": page[0]["id"], "after": page[-1]["id"]}}
        if start + limit < len(nodes):
            found["paging"]["next"] = url
    return found


async def parameters(request: web.Request) -> Fields:
    """All parameters: of the address, a form or a JSON body. Values that are JSON are read as such, as Meta does."""
    found: Fields = {name: _value(value) for name, value in request.query.items()}
    if request.content_type == "application/json" and request.can_read_body:
        body = await request.json()
        if not isinstance(body, dict):
            raise invalid("the body is no object")
        return found | body
    return found | {name: _value(str(value)) for name, value in (await request.post()).items()}


def _value(text: str) -> Any:
    if text[:1] not in "{[":
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text
