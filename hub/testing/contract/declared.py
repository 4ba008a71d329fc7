"""What can be told of a connector's declarations alone."""

from __future__ import annotations

from typing import Any

from hub.catalogue import nearest
from hub.connector import Action, Connector, OAuth2, Trigger


def prove_scopes(connector: Connector) -> None:
    """Whatever a trigger or action needs is asked for when an account is authorised."""
    known = {scope for kind in connector.auth if isinstance(kind, OAuth2) for scope in kind.scopes}
    declared: list[Trigger[Any] | Action[Any, Any]] = [*connector.triggers.values(), *connector.actions.values()]
    for one in declared:
        for scope in one.scopes:
            assert scope in known, (
                f"{one.type} needs the scope {scope}, which {connector.name} never asks for{nearest(scope, known)}; add "
                "it to the scopes of an OAuth2, or leave it out where nobody grants scopes"
            )


def prove_senders(connector: Connector) -> None:
    """What says from whom a message is, is a field of its input, and of a connection."""
    fields = [*connector.fields, *(field for kind in connector.auth for field in kind.fields)]
    known = {field.name for field in fields}
    for action in connector.actions.values():
        if action.message is None:
            continue
        inputs = {field.alias or name for name, field in action.input.model_fields.items()}
        for name, names, where in (
            *((name, inputs, "its input") for name in action.message.senders),
            *((name, known, "a connection") for name in action.message.default_senders),
        ):
            assert name in names, f"{action.type} is sent by {name}, which is no field of {where}{nearest(name, names)}"


def prove_subscribed_secrets(connector: Connector) -> None:
    """What gathers the secrets of subscriptions is a secret field by which calls are verified."""
    name = connector.subscriptions.secret_field if connector.subscriptions is not None else ""
    if not name:
        return
    fields = [*connector.fields, *(field for kind in connector.auth for field in kind.fields)]
    assert name in {field.name for field in fields if field.secret}, (
        f'{connector.name}\'s subscriptions keep their secrets in {name}, which is no secret field: add Field(name="{name}", '
        "…, secret=True, required=False)"
    )
    assert name in (connector.webhook.secrets if connector.webhook else ()), (
        f"{connector.name}'s subscriptions keep their secrets in {name}, by which no call is verified: add it to the webhook's "
        "`secrets`"
    )


def prove_secret_fields(connector: Connector) -> None:
    """Every name in a webhook's `secrets` is a secret field, so that it can be given and is never shown."""
    if connector.webhook is None:
        return
    fields = [*connector.fields, *(field for kind in connector.auth for field in kind.fields)]
    secret = {field.name for field in fields if field.secret} | {"client_secret"}
    assert connector.webhook.secrets, f"{connector.name}'s webhook names no secret, so every call would be refused"
    for name in connector.webhook.secrets:
        assert name in secret, (
            f"{connector.name}'s webhook is verified by {name}, and there is no secret field of that name"
            f'{nearest(name, secret)}; add Field(name="{name}", …, secret=True)'
        )
