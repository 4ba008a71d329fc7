"""What pydantic finds wrong with a value, in our words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


def unprefixed(message: str) -> str:
    """A message of pydantic without the word that it puts before those of our own validators."""
    return message.removeprefix("Value error, ")


def misfits(error: ValidationError, *, whole: str, between: str = ".") -> Iterable[str]:
    """Each thing that is wrong as `place: message`, without the value; `whole` is the place of all of it."""
    for one in error.errors(include_input=False, include_url=False):
        yield f"{between.join(map(str, one['loc'])) or whole}: {unprefixed(one['msg'])}"
