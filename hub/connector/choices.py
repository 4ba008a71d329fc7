"""What a recipe's author may choose from at a vendor: lists, audiences, templates, owners, pipelines."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from hub.connector.calls import ActionContext


@dataclass(frozen=True)
class Choice:
    """One thing that can be chosen: its id at the vendor, and the label that people know it by."""

    id: str
    label: str
    hint: str = ""
    """What tells two of one label apart, such as the folder or the number of members."""


@dataclass(frozen=True)
class ChoicePage:
    """Some choices, and the cursor to ask for the next ones with; None at the end."""

    items: Sequence[Choice]
    cursor: str | None = None


@dataclass(frozen=True)
class Chosen:
    """Says of an input's field that its value is one of the connector's choices: `Annotated[str, Chosen("lists")]`.

    A recipe may write the label; publishing pins the id. `within` names fields of the same input that the choices depend
    on, such as the pipeline of a stage.
    """

    choices: str
    within: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ChoiceQuery:
    """What is asked for: labels that hold `search` (all when empty), from `cursor` on, given the fields of `within`."""

    search: str = ""
    cursor: str | None = None
    within: Mapping[str, str]


ReadChoices = Callable[[ActionContext, ChoiceQuery], Awaitable[ChoicePage]]
