"""A connection's context without a store: call an action, a look-up or a poll directly against a sandbox."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

from hub.clock import Clock
from hub.connector import ActionContext, Auth, Connector, StaticToken, sandbox_secret
from hub.events import Json
from hub.http import ConnectionHttp, Transport


def sandbox_fields(connector: Connector, settings: Mapping[str, str]) -> dict[str, str]:
    """A sandbox connection's fields: `settings` and defaults as given, secrets generated for the account they name."""
    auth = connector.auth[0]
    fields = [*connector.fields, *auth.fields]
    values = {f.name: f.default for f in fields if f.default is not None and not f.secret} | dict(settings)
    account = connector.account(values)
    secrets = {f.name: sandbox_secret(connector.name, account, f.name) for f in fields if f.secret}
    return {**values, **secrets}


async def _first(name: str) -> int:
    return 0


@asynccontextmanager
async def sandbox_context(
    connector: Connector,
    sandbox_url: str,
    settings: Mapping[str, str],
    *,
    clock: Clock | None = None,
    reference: str = "test-reference",
    callback_url: str = "",
    sightings: Callable[[str], Awaitable[Sequence[Mapping[str, Json]]]] | None = None,
    rota: Callable[[str], Awaitable[int]] | None = None,
    token: str | None = None,
    total_s: float = 20.0,
) -> AsyncIterator[ActionContext]:
    """An ActionContext whose calls go to the sandbox server at `sandbox_url` with the generated credentials.

    `token` is the `access_token` where the connector's auth is exchanged for one; without it the one that a sandbox
    derives, `sandbox.secret(account, "access_token")`. Without `rota` it is always the first one's turn.
    """
    clock = clock or Clock()
    fields = sandbox_fields(connector, settings)
    if token is not None or not isinstance(connector.auth[0], StaticToken):
        fields["access_token"] = token or sandbox_secret(connector.name, connector.account(fields), "access_token")
    secret_names = {f.name for f in (*connector.fields, *connector.auth[0].fields) if f.secret}
    transport = Transport(sandbox_url=sandbox_url)

    def way_out(kind: Auth) -> ConnectionHttp:
        return ConnectionHttp(
            transport=transport,
            connector=connector,
            connection_id="test",
            credentials=fields,
            authorisation=kind.headers(fields),
            proof=kind.params(fields) if kind.params else {},
            sandbox=True,
            total_s=total_s,
        )

    of_app = connector.app_auth
    try:
        yield ActionContext(
            connection=f"{connector.name}-sandbox",
            connection_id="test",
            account=connector.account(fields),
            settings={k: v for k, v in fields.items() if k not in secret_names},
            http=way_out(connector.auth[0]),
            app_http=way_out(of_app) if of_app and all(fields.get(f.name) for f in of_app.fields) else None,
            now_ms=clock.now_ms(),
            reference=reference,
            idempotency_key="00000000-0000-5000-8000-000000000000",
            intended_at_ms=clock.now_ms(),
            callback_url=callback_url,
            sightings=sightings,
            rota=rota or _first,
        )
    finally:
        await transport.close()
