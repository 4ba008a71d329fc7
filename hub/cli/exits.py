"""The exit codes of every command: `hub --help` and docs/errors.md take them from here."""

from __future__ import annotations

EXIT_CODES = {
    0: "done",
    1: "something is wrong, as the message says",
    2: "wrong usage",
    3: "there is no such thing",
    4: "the database cannot be reached",
}


def in_words() -> str:
    """All of them in one line."""
    return f"Exit codes: {'; '.join(f'{code} {meaning}' for code, meaning in EXIT_CODES.items())}."
