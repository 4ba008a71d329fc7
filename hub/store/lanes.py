"""Lanes: which work waits together. A lane is the text in `work.queue`.

New and woken runs stand in the lane of their recipe. What waits for a connection stands in one per recipe, connection and
rank, so that nothing that could go on stands behind it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from hub.purposes import LegalClass, Purpose


class Rank(IntEnum):
    """Who goes first where there is not enough for all."""

    TRANSACTIONAL = 0
    """Also what is no message at all: recipes wait for it, and a person may."""
    MARKETING = 1
    BULK = 2
    """Calls for many at once, and polls."""


@dataclass(frozen=True)
class Lane:
    """Whose work it is: a recipe's, or with an empty `recipe` a connection's own (polls, silences, batches)."""

    recipe: str = ""
    connection: str = ""
    rank: Rank = Rank.TRANSACTIONAL

    def __str__(self) -> str:
        return f"{self.recipe}|{self.connection}|{self.rank.value}" if self.connection else self.recipe

    @classmethod
    def of(cls, text: str) -> Lane:
        """A lane from its text."""
        recipe, _, waits = text.partition("|")
        connection, _, rank = waits.partition("|")
        return cls(recipe, connection, Rank(int(rank)) if rank else Rank.TRANSACTIONAL)

    @property
    def owner(self) -> str:
        """Who it is shared out by: the recipe, or the connection of what belongs to none."""
        return self.recipe or f"|{self.connection}"


def rank_of(purpose: Purpose | None) -> Rank:
    """The rank of a call by what it is for."""
    marketing = purpose is not None and purpose.legal_class is LegalClass.MARKETING
    return Rank.MARKETING if marketing else Rank.TRANSACTIONAL
