"""What is entered for a connection or an app: which fields there are, which are secret, and whether values fit them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from hub.catalogue import nearest
from hub.connections.accounts import App, Connection
from hub.connector import CLIENT_FIELDS, TOKEN_FIELDS, Auth, Connector, Field, OAuth2
from hub.errors import ConnectionConfigError


def kind_of(connector: Connector, given: Mapping[str, str], *, auth: str | None, app: bool) -> Auth:
    """The kind of auth of that name; without one, what was meant by these fields and whether an app was named.

    Raises ConnectionConfigError with the names there are.
    """
    if auth is not None:
        return auth_of(connector, auth)

    def fits(kind: Auth) -> tuple[int, bool]:
        return len({f.name for f in kind.fields} & set(given)), app and isinstance(kind, OAuth2)

    # The kind whose own fields cover most of what was given is the one that was meant.
    return max(connector.auth, key=fits)


def auth_of(connector: Connector, name: str) -> Auth:
    """A connector's kind of auth of that name. Raises ConnectionConfigError with the names there are."""
    for kind in connector.auth:
        if kind.name == name:
            return kind
    raise ConnectionConfigError(
        f"{connector.name} has no auth {name}; it has {', '.join(a.name for a in connector.auth)}"
    )


def values_of(
    connector: Connector, given: Mapping[str, str], *, sandbox: bool, auth: str | None, inherited: bool
) -> tuple[Auth, dict[str, str]]:
    """The kind of auth that fits the fields given, and all values with defaults.

    `inherited` says that the webhook secrets are those of an app. Raises ConnectionConfigError naming the field.
    """
    kind = kind_of(connector, given, auth=auth, app=inherited)
    fields = {f.name: f for f in (*connector.fields, *kind.fields)}
    for name in given:
        if name not in fields and name not in TOKEN_FIELDS:
            raise ConnectionConfigError(
                f"{connector.name} has no field {name}{nearest(name, fields)}; it has {', '.join(fields)}"
            )
    webhook = connector.webhook.secrets if connector.webhook and inherited else ()
    values = {f.name: f.default for f in fields.values() if f.default is not None} | dict(given)
    for f in fields.values():
        if f.name not in values and f.required and not (sandbox and f.secret) and f.name not in webhook:
            raise ConnectionConfigError(_missing(connector, f))
        if f.name in values:
            check_pattern(f, values[f.name])
    return kind, values


def secret_names(connector: Connector, kind: Auth) -> set[str]:
    """The names of a connection's values that are kept encrypted."""
    return {f.name for f in (*connector.fields, *kind.fields) if f.secret} | TOKEN_FIELDS


def parted(connector: Connector, kind: Auth, values: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """A connection's values as settings and secrets."""
    secret = secret_names(connector, kind)
    return (
        {name: value for name, value in values.items() if name not in secret},
        {name: value for name, value in values.items() if name in secret},
    )


def check_pattern(f: Field, value: str) -> None:
    """Raise ConnectionConfigError when a value does not look like one of the field."""
    if f.pattern and not re.fullmatch(f.pattern, value):
        looks = f"{f.title}: {f.help.rstrip('.')}" if f.help else f.title
        raise ConnectionConfigError(f"{f.name} does not look like a {looks}; correct it and add it again")


def _missing(connector: Connector, f: Field) -> str:
    return f"{connector.name} needs {f.name}: {f.title}{f'. {f.help}' if f.help else ''}"


def app_fields(connector: Connector) -> dict[str, Field]:
    """What an app of a connector may hold, by name: webhook secrets, and a client id and secret for authorising."""
    secrets = connector.webhook.secrets if connector.webhook else ()
    fields = {name: Field(name=name, title=name.replace("_", " "), secret=True) for name in secrets}
    if any(isinstance(kind, OAuth2) for kind in connector.auth):
        fields |= {f.name: f for f in CLIENT_FIELDS}
    return fields


def app_values(connector: Connector, given: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """An app's values as settings and secrets. Raises ConnectionConfigError naming what is none of its fields."""
    fields = app_fields(connector)
    if not fields:
        raise ConnectionConfigError(f"{connector.name} has no apps: its connections stand for themselves; add those")
    if unknown := sorted(set(given) - set(fields)):
        raise ConnectionConfigError(
            f"an app of {connector.name} has no field {unknown[0]}{nearest(unknown[0], fields)}; "
            f"it has {', '.join(fields)}"
        )
    if not given:
        raise ConnectionConfigError(
            f"an app of {connector.name} needs one of {', '.join(fields)}; give it with --set or --secret-from-env"
        )
    settings = {name: value for name, value in given.items() if not fields[name].secret}
    return settings, {name: value for name, value in given.items() if name not in settings}


def require_client(connector: Connector, values: Mapping[str, str]) -> None:
    """Raise ConnectionConfigError for an app (all of its values) that has one half only of what authorises accounts.

    An app may have neither, for its webhook secrets alone; where the client's secret signs the webhooks, also just that.
    """
    fields = app_fields(connector)
    webhook = connector.webhook.secrets if connector.webhook else ()
    client = [f.name for f in CLIENT_FIELDS if f.name in fields]
    missing = [name for name in client if not values.get(name)]
    given = [name for name in client if values.get(name) and name not in webhook]
    if missing and given:
        how = "--secret-from-env {}=VARIABLE" if fields[missing[0]].secret else "--set {}=…"
        raise ConnectionConfigError(
            f"an app of {connector.name} with a {given[0]} needs a {missing[0]}, too: accounts are authorised by both; "
            f"the vendor shows it where the app is registered, so add {how.format(missing[0])}"
        )


def secrets_of(connector: Connector, owner: Connection | App) -> list[str]:
    """The names of the secrets that an owner can be given."""
    if isinstance(owner, App):
        return [f.name for f in app_fields(connector).values() if f.secret]
    kinds = [kind for kind in connector.auth if kind.name == owner.auth]
    return [f.name for f in (*connector.fields, *(f for kind in kinds for f in kind.fields)) if f.secret]
