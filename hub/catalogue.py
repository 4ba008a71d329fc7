"""What the loaded plugins offer, looked up by name: connectors, triggers, actions and the capabilities they provide."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hub.connector import Action, Connector, Trigger


@dataclass(frozen=True)
class Catalogue:
    """The connectors by name. `unusable` maps the name of a quarantined plugin to why it could not be loaded."""

    connectors: Mapping[str, Connector]
    unusable: Mapping[str, str] = field(default_factory=dict)

    def triggers(self) -> dict[str, Trigger[Any]]:
        """Every trigger by its event type (`shopify.order_paid`)."""
        return {t.type: t for c in self.connectors.values() for t in c.triggers.values()}

    def actions(self) -> dict[str, Action[Any, Any]]:
        """Every action by its full name (`twilio.send_sms`)."""
        return {a.type: a for c in self.connectors.values() for a in c.actions.values()}

    def trigger(self, type: str) -> Trigger[Any] | None:
        """The trigger of an event type, or None."""
        connector, _, name = type.partition(".")
        found = self.connectors.get(connector)
        return found.triggers.get(name) if found else None

    def action(self, type: str) -> Action[Any, Any] | None:
        """The action of a full name, or None."""
        connector, _, name = type.partition(".")
        found = self.connectors.get(connector)
        return found.actions.get(name) if found else None

    def triggers_for(self, name: str) -> list[Trigger[Any]]:
        """The triggers that a recipe's event name stands for: the one of that type, or all that provide the capability."""
        one = self.trigger(name)
        return [one] if one else [t for t in self.triggers().values() if t.provides == name]

    def actions_for(self, name: str) -> list[Action[Any, Any]]:
        """The actions that a recipe's `do` stands for: the one of that name, or all that provide the capability."""
        one = self.action(name)
        return [one] if one else [a for a in self.actions().values() if a.provides == name]

    def event_names(self) -> list[str]:
        """Every name that `event:` may hold: event types and event capabilities."""
        triggers = self.triggers()
        return sorted({*triggers, *(t.provides for t in triggers.values() if t.provides)})

    def action_names(self) -> list[str]:
        """Every name that `do:` may hold: actions and capabilities."""
        actions = self.actions()
        return sorted({*actions, *(a.provides for a in actions.values() if a.provides)})


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean X?` for a misspelt name, or an empty string when nothing is near."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""
