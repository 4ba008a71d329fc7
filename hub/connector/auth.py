"""How the accounts of a vendor are authorised: fields that a person gives, tokens that the hub fetches."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from hub.connector.calls import ActionContext


@dataclass(frozen=True, kw_only=True)
class Field:
    """One value that a connection needs. Secret fields are encrypted and never shown again; others are settings."""

    name: str
    title: str
    secret: bool = False
    required: bool = True
    pattern: str | None = None
    """A regular expression that the whole value must match."""
    help: str = ""
    default: str | None = None


Headers = Callable[[Mapping[str, str]], Mapping[str, str]]
"""From a connection's fields (settings and credentials together) to the headers of each call. Pure."""

Params = Callable[[Mapping[str, str]], Mapping[str, str]]
"""The same for parameters of each call's query string, for vendors that want a proof there. Pure."""

Granted = Callable[[ActionContext, Mapping[str, str]], Awaitable[Collection[str] | None]]
"""Asks the vendor for the scopes of pasted credentials, which are among the fields; None where it does not tell."""


@dataclass(frozen=True, kw_only=True)
class StaticToken:
    """Credentials that a person pastes once: a token, a key and its secret.

    `granted` is asked by `hub connections test`: plans and the doctor name what recipes need and a token may not do.
    """

    headers: Headers
    fields: tuple[Field, ...] = ()
    params: Params | None = None
    name: str = "token"
    """Tells the kinds of auth of one connector apart."""
    granted: Granted | None = None


@dataclass(frozen=True, kw_only=True)
class ClientCredentials:
    """A client id and secret that the hub exchanges for a token by itself, again before each expiry (RFC 6749 § 4.4).

    `token_url` is built from the connection's fields; the answer is JSON with `access_token` and `expires_in` (seconds).
    The token reaches `headers` as the field `access_token`. `client_auth` says where a form's client id and secret go: into
    the form (`post`) or the Authorization header (`basic`).
    """

    headers: Headers
    token_url: Callable[[Mapping[str, str]], str]
    fields: tuple[Field, ...] = ()
    params: Params | None = None
    name: str = "client_credentials"
    request_format: Literal["form", "json"] = "form"
    client_auth: Literal["post", "basic"] = "post"


@dataclass(frozen=True, kw_only=True)
class OAuth2:
    """An account that a person authorises in the browser (RFC 6749 § 4.1, always with PKCE), for an app of ours.

    The app holds `client_id` and `client_secret`; `fields` are what must be known before (such as a shop's domain). The
    hub keeps the tokens, renews them where the vendor gives `refresh_token`, and records whose account it is by
    `Connector.whoami`, which is required. The token reaches `headers` as the field `access_token`.

    `scopes` is all that the connector can make use of; triggers and actions name those of them that they need. Those that
    are `optional_scopes`, too, are asked for by the parameter `optional_scope`, for vendors that refuse an account which
    lacks one of `scope`. With
    `issuer` an answer that names another one (RFC 9207), or none, is refused. `authorise_params` and `token_params` go along
    with what the standard says. `implied_scopes` says what else is granted with a scope, where the vendor's answer leaves
    that out. `check_callback` gets the parameters that the browser brought back and the fields, the client's secret among
    them, and raises a HubError unless they are the vendor's; not asked in sandbox mode, where nobody knows that secret.
    """

    headers: Headers
    authorise_url: Callable[[Mapping[str, str]], str]
    token_url: Callable[[Mapping[str, str]], str]
    revoke_url: Callable[[Mapping[str, str]], str] | None = None
    scopes: tuple[str, ...] = ()
    optional_scopes: tuple[str, ...] = ()
    scope_separator: str = " "
    issuer: str | None = None
    authorise_params: Mapping[str, str] = field(default_factory=dict)
    token_params: Mapping[str, str] = field(default_factory=dict)
    fields: tuple[Field, ...] = ()
    params: Params | None = None
    name: str = "oauth2"
    request_format: Literal["form", "json"] = "form"
    client_auth: Literal["post", "basic"] = "post"
    implied_scopes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    check_callback: Callable[[Mapping[str, str], Mapping[str, str]], None] | None = None


Auth = StaticToken | ClientCredentials | OAuth2

CLIENT_FIELDS = (
    Field(name="client_id", title="client id"),
    Field(name="client_secret", title="client secret", secret=True),
)
"""What an app holds at a vendor whose accounts are authorised in the browser."""

TOKEN_FIELDS = frozenset({"access_token", "refresh_token"})
"""The credentials that the hub itself keeps in a connection."""


def sandbox_secret(connector: str, account: str, field_name: str) -> str:
    """The generated credential of a sandbox connection: the hub and the sandbox both derive it, nobody configures it."""
    return hashlib.sha256(f"tetik-hub sandbox\0{connector}\0{account}\0{field_name}".encode()).hexdigest()[:32]
