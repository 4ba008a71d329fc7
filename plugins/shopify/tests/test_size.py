"""How much code a paid order takes on its way from Shopify into the hub: what the README says."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import hub_shopify

ROOT = Path(hub_shopify.__file__).parent
# All that runs between the webhook's bytes and the event, but for the models.
ORDER_PAID = {
    "connector.py": ["ShopifyWebhook", "_classic"],
    "triggers/orders.py": ["order_paid"],
    "bodies.py": ["order", "_money", "_phone", "_codes", "_tags", "_line_items"],
    "payloads.py": ["buyer", "ticked"],
}


def lines_of(path: Path, names: list[str]) -> int:
    """Lines of code of these definitions, decorators included; without blank ones, comments and docstrings."""
    text = path.read_text()
    found = {node.name: node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    counted = 0
    for name in names:
        node = found[name]
        docstrings = {
            line
            for inner in ast.walk(node)
            if isinstance(inner, ast.FunctionDef | ast.ClassDef)
            and isinstance(first := inner.body[0], ast.Expr)
            and isinstance(first.value, ast.Constant)
            for line in range(first.lineno, (first.end_lineno or 0) + 1)
        }
        begin = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
        whole = range(begin, (node.end_lineno or 0) + 1)
        code = [line for line in whole if line not in docstrings]
        counted += sum(bool(re.match(r"\s*[^\s#]", text.splitlines()[line - 1])) for line in code)
    return counted


def test_a_paid_order_takes_as_few_lines_as_the_readme_says() -> None:
    counted = sum(lines_of(ROOT / file, names) for file, names in ORDER_PAID.items())
    told = re.search(r"takes (\d+) lines of this plugin", (ROOT.parent / "README.md").read_text())
    assert told
    assert counted == int(told[1])
    # Of the 150 that the way on into a mailing list may take altogether.
    assert counted <= 100
