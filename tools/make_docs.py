"""Writes the generated pages: docs/hooks.md, docs/reference.md, docs/settings.md, docs/cli.md, docs/errors.md, docs/connectors.

Run `python tools/make_docs.py` after changing a hook, a name that authors import, a setting, a command, a message or a connector's
declarations; tools/check_docs.py says when it was forgotten.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Iterable, Iterator
from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import Any, get_args, get_type_hints

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # run as a file, only its own folder is there

from tools import connector_pages  # noqa: E402
from tools.error_catalogue import error_classes, messages, said  # noqa: E402

_NOTE = "<!-- Made by tools/make_docs.py from {source}: change that, then run `python tools/make_docs.py`. -->"


def pages() -> dict[Path, str]:
    """Every generated page: where it stands, and what it must say."""
    made: dict[str, Iterable[str]] = {
        "hooks": _hooks(),
        "reference": _reference(),
        "settings": _settings(),
        "cli": _cli(),
        "errors": _errors(),
    }
    made |= {f"connectors/{name}": lines for name, lines in connector_pages.pages().items()}
    return {ROOT / "docs" / f"{name}.md": "\n".join(lines).rstrip() + "\n" for name, lines in made.items()}


def left_over() -> list[Path]:
    """Pages of connectors that are no longer there."""
    return sorted(set((ROOT / "docs" / "connectors").glob("*.md")) - set(pages()))


# -- hooks -------------------------------------------------------------------------------------------------------------

_HOOKS_HEAD = """
# Hooks

A plugin takes part in the hub through the hooks below and nothing else.
Mark a function of your plugin's module with `@hookimpl`, name it like the hook, and take the arguments you need by their names.

```python
from hub import Event, hookimpl


@hookimpl
def hub_event_received(event: Event, event_id: str) -> None:
    print("stored", event.type, event_id)
```

How to declare connectors, triggers and actions stands in [connectors.md](connectors.md).
"""


def _hooks() -> Iterator[str]:
    from hub import hookspecs

    yield _NOTE.format(source="hub/hookspecs.py")
    yield _HOOKS_HEAD
    tree = ast.parse(inspect.getsource(hookspecs))
    specs = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.decorator_list]
    yield "| hook | what it is for |\n|---|---|"
    for spec in specs:
        yield f"| [`{spec.name}`](#{spec.name}) | {_sentences(ast.get_docstring(spec))[0]} |"
    for spec in specs:
        yield f"\n## {spec.name}\n"
        yield f"```python\n{_signature(spec)}\n```\n"
        yield from _sentences(ast.get_docstring(spec))
    yield "\n## Veto\n"
    yield from _sentences(hookspecs.Veto.__doc__)
    yield '\n```python\nreturn Veto("outside opening hours", delay_s=3600)\n```'


def _signature(spec: ast.FunctionDef) -> str:
    given = ", ".join(ast.unparse(argument) for argument in spec.args.args)
    returns = ast.unparse(spec.returns) if spec.returns else "None"
    return f"def {spec.name}({given}) -> {returns}: ..."


def _sentences(text: str | None) -> list[str]:
    """A docstring's sentences, each a line; paragraphs are kept apart by an empty one."""
    lines = []
    for paragraph in (text or "").split("\n\n"):
        lines += [*re.split(r"(?<=\.) (?=[A-Z`])", " ".join(paragraph.split())), ""]
    return lines[:-1]


# -- what authors import -----------------------------------------------------------------------------------------------

_REFERENCE_HEAD = """
# Reference for connector authors

Every name that a plugin may import from `hub`, and from `hub.testing` for its tests; between them, what it is handed and need not import.
[connectors.md](connectors.md) shows how they go together.
Types as `Callable[[P], str]` mean: a function that takes your payload model and returns text; `P` is a trigger's payload, `I` and `O` an action's input and output.
"""
_FUNCTIONS_HEAD = """
## Functions you write

What each of them is given, and gives back.
One that gives back an `Awaitable` is an async function; the others do no I/O and read no clock.

| function | signature |
|---|---|
"""
_FUNCTIONS = {
    "hub.connector": {
        "Classify": "`classify` of a connector",
        "ReadThrottle": "`throttle` of a connector",
        "Forget": "`@connector.forget`",
    },
    "hub.connector.auth": {"Headers": "`headers` of an auth", "Params": "`params` of an auth"},
    "hub.connector.triggers": {
        "Parse": "`@connector.trigger`",
        "Enrich": "`@trigger.enrich`",
        "Confirm": "`@trigger.confirm`",
    },
    "hub.connector.actions": {
        "Run": "`@connector.action`",
        "RunBatch": "`@connector.batch_action`",
        "Lookup": "`@action.lookup`",
        "Simulate": "`@action.simulate`",
        "Describe": "`@action.describe`",
    },
    "hub.connector.choices": {"ReadChoices": "`@connector.choose`"},
}
_HANDED = {"hub.connector": ("Http", "Response", "Trigger", "Action", "Poll", "History")}
_FOR_TESTS = {
    "hub.testing.contract": ("Contract", "Call", "prove_effect_class"),
    "hub.testing.sandbox": ("Sandbox", "Received", "SandboxServer"),
    "hub.testing.oauth": ("OAuthServer",),
    "hub.testing.context": ("sandbox_context",),
    "hub.clock": ("Clock",),
}


def _reference() -> Iterator[str]:
    import hub

    yield _NOTE.format(source="the docstrings of what hub/__init__.py exports")
    yield _REFERENCE_HEAD
    yield "## hub"
    for name in hub.__all__:
        if name not in _HANDED["hub.connector"]:
            yield from _described(name, getattr(hub, name))
    yield _FUNCTIONS_HEAD.rstrip()
    for module, functions in _FUNCTIONS.items():
        yield from (f"| {use} | `{_alias(module, name)}` |" for name, use in functions.items())
    yield "| `whoami` of a connector | `Callable[[ActionContext], Awaitable[Account]]` |"
    pages = "`Callable[[ActionContext, str \\| None, int], AsyncIterator[Page[P]]]`"
    yield f"| `@connector.poll`, `@connector.history` | {pages}: context, cursor, `since_ms` |"
    yield "\n## What you are handed"
    for module, names in _HANDED.items():
        for name in names:
            yield from _described(name, getattr(import_module(module), name))
    for module, names in _FOR_TESTS.items():
        yield f"\n## {module}"
        for name in names:
            yield from _described(name, getattr(import_module(module), name))


def _alias(module: str, name: str) -> str:
    """What a type alias of a module stands for, as it is written there."""
    tree = ast.parse(inspect.getsource(import_module(module)))
    assigned = (node for node in tree.body if isinstance(node, ast.Assign))
    found = next(node for node in assigned if ast.unparse(node.targets[0]) == name)
    return ast.unparse(found.value).replace("|", "\\|")


def _described(name: str, what: Any) -> Iterator[str]:
    """A class with its fields and methods, or a function; aliases and instances say nothing of themselves."""
    if not (inspect.isclass(what) or inspect.isfunction(what)) or not what.__module__.startswith("hub."):
        return
    source = ast.parse(inspect.getsource(sys.modules[what.__module__]))
    node = next(n for n in source.body if isinstance(n, _DEFINED) and n.name == what.__name__)
    yield f"\n### {name}\n"
    if not isinstance(node, ast.ClassDef):
        yield f"```python\n{_called(node)}\n```\n"
    yield from _sentences(ast.get_docstring(node))
    if isinstance(node, ast.ClassDef):
        yield from _members(node)


_DEFINED = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def _members(node: ast.ClassDef) -> Iterator[str]:
    fields, methods = [], []
    for member, after in zip(node.body, [*node.body[1:], None], strict=True):
        if isinstance(member, ast.AnnAssign | ast.Assign) and not ast.unparse(member).startswith("_"):
            told = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and str(after.value.value)
            fields.append(ast.unparse(member) + (f"  # {' '.join(told.split())}" if told else ""))
        if isinstance(member, ast.FunctionDef) and any(ast.unparse(d) == "property" for d in member.decorator_list):
            told = ast.get_docstring(member)
            fields.append(
                f"{member.name}: {ast.unparse(member.returns or ast.Constant(None))}{(told and f'  # {told}') or ''}"
            )
            continue
        if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef) and (
            member.name == "__init__" or (not member.name.startswith(("_", "test_")) and ast.get_docstring(member))
        ):
            methods.append(member)
    if fields:
        yield "\n```python\n" + "\n".join(fields) + "\n```"
    for method in methods:
        yield f"\n```python\n{_called(method)}\n```\n"
        yield from _sentences(ast.get_docstring(method))


def _called(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """How a function is called: its signature, a long one with an argument on each line."""
    given = ast.unparse(node.args)
    kind = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    line = f"{kind} {node.name}({given})" + (f" -> {ast.unparse(node.returns)}" if node.returns else "")
    if len(line) <= 110:
        return line
    split = re.sub(r", (?=\*|[a-z_]+:|[a-z_]+=)", ",\n    ", given)
    return f"{kind} {node.name}(\n    {split},\n)" + (f" -> {ast.unparse(node.returns)}" if node.returns else "")


# -- settings ----------------------------------------------------------------------------------------------------------

_SETTINGS_HEAD = """
# Settings

Every setting is an environment variable; a file `.env` in the working folder may hold them, too.
A wrong value stops the start with the variable's name.
`hub settings` shows what is set, where it comes from, and masks secrets.
"""


def _settings() -> Iterator[str]:
    from pydantic_core import PydanticUndefined

    from hub.settings import Settings

    yield _NOTE.format(source="hub/settings.py")
    yield _SETTINGS_HEAD
    yield "| variable | default | what it does |\n|---|---|---|"
    for name, field in Settings.model_fields.items():
        default = field.default if field.default is not PydanticUndefined else None
        shown = "" if default is None else f"`{str(default).lower() if isinstance(default, bool) else default}`"
        yield f"| `HUB_{name.upper()}` | {shown} | {field.description} |"
    yield "\n`HUB_DEBUG=1` is the same as `hub --debug`: errors come with their traceback."


# -- errors ------------------------------------------------------------------------------------------------------------

_ERRORS_HEAD = """
# Errors

A message says what happened, where, and what to do about it.
In a terminal it is one line on standard error, for each place of a recipe one with `FILE:LINE`; a traceback comes with `hub --debug` only.
From the REST API it is the `detail` of an `application/problem+json` answer, with the call to make in the place of a command where there is one.
Below, … stands for what the case fills in; *did you mean …?* follows where a name is near.

## Exit codes
"""
_ANSWERS = """
A process that serves and is told twice to stop exits with 128 and the signal's number.

## Answers of the REST API

| status | when |
|---|---|
| 401, 403 | no API key, one that is not known, or one that may only read |
| 404 | there is no such thing |
| 422 | something has to be corrected; of a recipe each place is in `errors`, with its path and line |
| 502 | a vendor's call failed; `vendor_status` and `vendor_code` say how |
| 503 | the database cannot be reached; `Retry-After` says when to try again |
| 500 | the hub itself failed; its log says where |

## Kinds of errors

Plugins raise some of them; a message without advice of its own has that of its kind.
"""


def _errors() -> Iterator[str]:
    from hub.cli.exits import EXIT_CODES

    yield _NOTE.format(source="the messages in hub")
    yield _ERRORS_HEAD
    yield "| code | meaning |\n|---|---|"
    yield from (f"| {code} | {meaning} |" for code, meaning in EXIT_CODES.items())
    yield _ANSWERS
    yield "| error | what happened | what to do |\n|---|---|---|"
    for name, error in error_classes().items():
        yield f"| `{name}` | {' | '.join(map(_cell, said(error)))} |"
    section = ""
    for message in messages():
        if message.section != section:
            section = message.section
            yield f"\n## {section}\n\n| what you read | what to do |\n|---|---|"
        yield f"| {_cell(message.text)} | {_cell(message.mend)} |"


def _cell(text: str) -> str:
    """A text that a table of Markdown shows as it is."""
    return text.replace("|", "\\|").replace("<", "&lt;")


# -- commands ----------------------------------------------------------------------------------------------------------

_CLI_HEAD = """
# Commands

`hub COMMAND --help` says the same in a terminal.
Every command that answers takes `--json`; those that run until they are stopped do not.
"""


def command_tree() -> Any:
    """The command `hub` with all its groups, as typer made it (its types live in click or in typer, by version)."""
    import typer

    from hub.cli import app

    return typer.main.get_command(app)


def _cli() -> Iterator[str]:
    tree = command_tree()
    yield _NOTE.format(source="hub/cli")
    yield _CLI_HEAD
    yield tree.epilog
    yield from _options(tree)
    yield "\n| command | what it does |\n|---|---|"
    commands = list(_commands(tree, "hub"))
    for name, command in commands:
        yield f"| [`{name}`](#{name.replace(' ', '-')}) | {_sentences(command.help)[0]} |"
    for name, command in commands:
        yield f"\n## {name}\n"
        yield f"```\n{' '.join([name, *_usage(command)])}\n```\n"
        yield from _sentences(command.help)
        yield from _options(command)


def _commands(group: Any, path: str) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            if command.invoke_without_command:
                yield f"{path} {name}", command
            yield from _commands(command, f"{path} {name}")
        elif not command.hidden:
            yield f"{path} {name}", command


def _usage(command: Any) -> Iterator[str]:
    if any(_is_option(parameter) for parameter in command.params):
        yield "[OPTIONS]"
    for parameter in command.params:
        if not _is_option(parameter):
            name = parameter.metavar or parameter.name.upper()
            yield name if parameter.required else f"[{name}]"


def _options(command: Any) -> Iterator[str]:
    hints = get_type_hints(command.callback)
    # Options that typer adds itself (--help, completion) are none of the callback's.
    given = [option for option in command.params if _is_option(option) and option.name in hints]
    if given:
        yield "\n| option | |\n|---|---|"
    for option in given:
        names = ", ".join([*option.opts, *option.secondary_opts])
        yield f"| `{names}{_takes(option, hints[option.name])}` | {option.help or ''} |"


def _is_option(parameter: Any) -> bool:
    return str(parameter.param_type_name) == "option"


def _takes(option: Any, hint: Any) -> str:
    """What stands after an option: its metavar, its choices, or a word for its type; nothing after a flag."""
    if option.is_flag:
        return ""
    kinds = [kind for kind in (hint, *get_args(hint)) if isinstance(kind, type)]
    choices = "\\|".join(str(one.value) for kind in kinds if issubclass(kind, Enum) for one in kind)
    return f" {option.metavar or choices or ('N' if int in kinds else 'TEXT')}"


def main() -> None:
    """Write every page that changed, and remove those that nothing stands behind."""
    (ROOT / "docs" / "connectors").mkdir(exist_ok=True)
    for path in left_over():
        path.unlink()
        print(f"removed {path.relative_to(ROOT)}")
    for path, text in pages().items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
