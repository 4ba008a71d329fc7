"""Questions in a terminal: choices with numbers, narrowed by typing."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import typer

from hub.cli.output import note, say

# More are not shown at once: type to narrow.
_MOST = 20


def choose(question: str, options: Mapping[str, str], *, default: str | None = None) -> str:
    """One of several names, each shown with its title: by number, by name, or by a part of either."""
    from hub.catalogue import nearest

    shown = list(options)
    while True:
        for number, name in enumerate(shown[:_MOST], 1):
            say(f"{number:>4}  {name}{f'  {options[name]}' if options[name] else ''}")
        if len(shown) > _MOST:
            say(f"      … and {len(shown) - _MOST} more: type a part of the name")
        answer = str(typer.prompt(question, default=default)).strip()
        if answer in options:
            return answer
        if answer.isdecimal() and 1 <= int(answer) <= min(len(shown), _MOST):
            return shown[int(answer) - 1]
        part = answer.lower()
        found = [name for name in options if part in name.lower() or part in options[name].lower()]
        if len(found) == 1:
            return found[0]
        if not found:
            note(f"nothing there is called {answer}{nearest(answer, options)}")
        shown = found or list(options)


def ask(question: str, check: Callable[[str], str | None], *, default: str | None = None) -> str:
    """A text; asked again while `check` says what is wrong with it."""
    while True:
        answer = str(typer.prompt(question, default=default)).strip()
        problem = check(answer)
        if problem is None:
            return answer
        note(problem)
