"""What the API says to programs: calls in the place of commands."""

from __future__ import annotations

import re
from typing import Any, cast

import pytest

from hub.api import problems
from hub.api.app import make_app


@pytest.mark.parametrize(
    ("said", "to_programs"),
    [
        ("there is no recipe x; `hub recipes list` shows what there is", "GET /api/v1/recipes shows what there is"),
        ("there is no run x; `hub runs list` shows what there is", "GET /api/v1/runs shows what there is"),
        ("it asks nothing; `hub runs list --status waiting` shows which do", "GET /api/v1/runs?status=waiting shows"),
        ("nothing to retry; `hub runs show` says how it stands", "GET /api/v1/runs/… says how it stands"),
        ("it has ended; `hub runs show 0198-aa` tells how", "GET /api/v1/runs/0198-aa tells how"),
        ("it has ended already; `hub pauses` shows what is paused", "GET /api/v1/pauses shows what is paused"),
        ("there is no event type x; `hub plugins` lists them", "GET /api/v1/plugins lists them"),
        ("new ones by `hub connections reauthorise my-shop`", "POST /api/v1/connections/my-shop/reauthorise"),
        (
            "begin with `hub connections reauthorise club` or POST /api/v1/connections/club/authorise",
            "begin with POST /api/v1/connections/club/authorise",
        ),
        # what only people can do stays as it is
        ("needs 0004; run `hub db upgrade`", "needs 0004; run `hub db upgrade`"),
    ],
)
def test_a_program_is_told_what_to_call_and_not_what_to_type(said: str, to_programs: str) -> None:
    assert to_programs in problems.for_programs(said)


def test_every_call_that_programs_are_told_of_is_there() -> None:
    # Only its description is looked at; no request is made.
    paths = make_app(cast("Any", None)).openapi()["paths"]
    there = {f"{method.upper()} {re.sub(r'{[^}]*}', '…', path)}" for path, how in paths.items() for method in how}
    for command in (
        *(f"{kind} list" for kind in ("runs", "events", "contacts", "recipes", "connections", "apps", "caps")),
        *(f"{kind} show x" for kind in ("runs", "events", "contacts", "recipes", "connections", "apps")),
        "runs list --status waiting",
        "pauses",
        "deliveries",
        "deliveries --refused",
        "connections remove",
        "connections reauthorise x",
        "apps add",
        "apps set x",
    ):
        told = problems.for_programs(f"`hub {command}`")
        assert "hub " not in told
        assert told.replace("/x", "/…").partition("?")[0] in there
