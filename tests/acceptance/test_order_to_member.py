"""How much a plugin's author writes: the lines of plugin code that a common job runs through, counted while it is done.

The job: an order is paid at Shopify, and its buyer becomes a member of a Mailchimp audience. Every statement that runs
counts with all of its lines, every function with its head and decorators; models, documentation and comments do not.
"""

from __future__ import annotations

import ast
import io
import re
import socket
import sys
import tokenize
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

from hub.api.app import make_app
from hub.api.serving import answering
from hub.clock import Clock
from hub.plugins import load_plugins
from hub.process import open_hub, receiving, sandboxes, working
from hub.settings import load_settings
from hub.store.work import NEVER_MS
from hub.vault import generate_key

ROOT = Path(__file__).parents[2]
MOST = 150
LIST = "a6b5da1054"
RECIPE = f"""\
recipe: order-to-member
on: {{event: shopify.order_paid}}
steps:
  - {{do: mailchimp.upsert_member, with: {{list_id: {LIST}, email: "{{{{ trigger.email }}}}", merge_fields: {{FNAME: "{{{{ trigger.first_name | default: '' }}}}"}}}}}}
"""
_LAYOUT = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


async def test_an_order_becomes_a_member_with_at_most_150_lines_of_plugin_code(tmp_path: Path) -> None:
    # Given a hub with a shop and an audience, and a recipe of one step
    plugins, clock = load_plugins(), Clock()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        async with sandboxes(plugins, clock, host="127.0.0.1", port=0) as server:
            settings = load_settings(
                database_url="sqlite:///:memory:", keys=[generate_key()], data_dir=tmp_path, development=True,
                sandbox_url=server.url, host="127.0.0.1", port=port, redis_url=None,
            )  # fmt: skip
            async with open_hub(settings, plugins=plugins, clock=clock) as hub:
                await hub.connections.add("shopify", "shop", {"shop": "my-shop.myshopify.com"}, sandbox=True)
                await hub.connections.add("mailchimp", "news", {"lists": LIST}, sandbox=True, auth="api_key")
                await hub.library.apply(RECIPE, publish=True)
                address = hub.connections.inbound_url(await hub.connections.by_name("shop"))
                async with receiving(hub), answering(make_app(hub), listener), working(hub):
                    # Subscriptions and polls are not part of the job.
                    await hub.time.advance(clock.now_ms() + 120_000, ring=hub.ring)
                    async with hub.store.write() as c:
                        aside = "update work set due_at = :never where kind in ('poll', 'subscriptions')"
                        await c.run(aside, never=NEVER_MS)
                    with _seen() as ran:
                        # When somebody pays for an order, and the vendor calls
                        shop: Any = server.sandboxes["shopify"]
                        bought = {"email": "ada@example.com", "topics": ["orders/paid"]}
                        assert await shop.order(address, "my-shop.myshopify.com", **bought) == 200
                        await hub.time.advance(clock.now_ms() + 60_000, ring=hub.ring)

            # Then they are a member
            [entry] = [one for one in server.sandboxes["mailchimp"].log if one.operation != "add_webhook"]
            assert (entry.operation, entry.data["email_address"]) == ("upsert_member", "ada@example.com")

    # And all that the plugins ran for it is as short as the documentation says
    lines = _counted(ran)
    assert set(lines) == {"shopify", "mailchimp"}
    assert sum(lines.values()) <= MOST, lines
    page = (ROOT / "docs" / "connectors.md").read_text(encoding="utf-8")
    said = {
        found[1]: int(found[2]) for found in re.finditer(r"^\| `plugins/(\w+)` \|.*\| (\d+) \|$", page, re.MULTILINE)
    }
    assert said == lines, "write the numbers of the right into the table of docs/connectors.md"


_Place = tuple[Path, int]


@contextmanager
def _seen() -> Iterator[set[_Place]]:
    """The lines of the plugins that run meanwhile, without those of their sandboxes."""
    found: set[_Place] = set()

    def called(frame: FrameType, event: str, _: object) -> Any:
        file = frame.f_code.co_filename
        if "/plugins/" not in file or "/sandbox" in file or "/tests/" in file:
            return None
        found.add((Path(file), frame.f_code.co_firstlineno))
        return ran

    def ran(frame: FrameType, event: str, _: object) -> Any:
        if event == "line":
            found.add((Path(frame.f_code.co_filename), frame.f_lineno))
        return ran

    before = sys.gettrace()
    sys.settrace(called)
    try:
        yield found
    finally:
        sys.settrace(before)


def _counted(ran: set[_Place]) -> dict[str, int]:
    """Lines of code by plugin."""
    lines: dict[str, set[_Place]] = {}
    for file, line in ran:
        plugin = file.parts[file.parts.index("plugins") + 1]
        lines.setdefault(plugin, set()).update((file, one) for one in _statement(file, line))
    return {plugin: len(found) for plugin, found in lines.items()}


def _statement(file: Path, line: int) -> set[int]:
    """The lines of the innermost statement around a line: of one that holds others its head alone."""
    node: ast.stmt | None = None
    inside: list[ast.stmt] = _parsed(file).body
    while found := [one for one in inside if _first(one) <= line <= (one.end_lineno or 0)]:
        [node] = found
        if isinstance(node, ast.ClassDef) and _is_model(node):
            return set()
        inside = [inner for inner in ast.iter_child_nodes(node) if isinstance(inner, ast.stmt)]
        inside += [inner for handler in getattr(node, "handlers", []) for inner in handler.body]
    assert node is not None, "what ran is a statement"
    if node in _parsed(file).body and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return set()  # what a name stands for: a connector's declaration, a type of a model's field
    body = getattr(node, "body", None)
    last = body[0].lineno - 1 if body else node.end_lineno or 0
    return set(range(_first(node), last + 1)) & _code(file)


def _is_model(node: ast.ClassDef) -> bool:
    """Whether a class holds fields: all data of the plugins are pydantic's models."""
    return any(isinstance(inner, ast.AnnAssign) for inner in node.body)


def _first(node: ast.stmt) -> int:
    decorators = getattr(node, "decorator_list", [])
    return min([node.lineno, *(decorator.lineno for decorator in decorators)])


@cache
def _parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


@cache
def _code(file: Path) -> set[int]:
    """The lines of a file that hold code: no comments, empty lines or documentation."""
    tokens = tokenize.generate_tokens(io.StringIO(file.read_text(encoding="utf-8")).readline)
    held = {line for one in tokens if one.type not in _LAYOUT for line in range(one.start[0], one.end[0] + 1)}
    texts = [
        node
        for node in ast.walk(_parsed(file))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    ]
    return held - {line for text in texts for line in range(text.lineno, (text.end_lineno or 0) + 1)}
