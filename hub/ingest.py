"""The door: a vendor's call is recognised, stored once, and only then answered.

Refusals never touch the database one by one; they are counted and flushed by `flush_refusals`.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pydantic_core import to_json

from hub import seams
from hub.catalogue import Catalogue
from hub.clock import Clock
from hub.connections import App, Connection, Connections
from hub.connector import Connector, Delivery, InboundRequest, Reply, Webhook
from hub.errors import ConfigError, HubError, IngressError, PayloadError, SignatureError, StoreUnavailable
from hub.events import Event
from hub.store.deliveries import Refusal, count_refusals
from hub.store.events import Incoming, NewEvent, Stored, ingest
from hub.store.grouped import Grouped
from hub.store.session import Store

MAX_BODY_BYTES = 1_000_000
MAX_EVENTS = 1_000
# Kept with a delivery for re-verification; credentials of the caller never are.
_UNKEPT_HEADERS = {"authorization", "cookie", "proxy-authorization"}
_SAMPLES = 3

_log = logging.getLogger(__name__)


class Refused(IngressError):
    """The call was refused. `reason` is for the operator; the caller learns nothing from it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass
class _Refusals:
    """Refusals since the last flush: (connector, key hash, reason, minute) to how many, with a few samples."""

    counts: dict[tuple[str, str, str, int], int] = field(default_factory=dict)
    samples: dict[tuple[str, str, str, int], list[dict[str, str | int]]] = field(default_factory=dict)


class Ingest:
    """Takes the calls of one process. `ring` is called after events were committed."""

    def __init__(
        self,
        store: Store,
        connections: Connections,
        catalogue: Catalogue,
        clock: Clock,
        *,
        public_url: str,
        ring: Callable[[], None],
    ) -> None:
        self._store, self._connections, self._catalogue, self._clock = store, connections, catalogue, clock
        self._public_url, self._ring = public_url.rstrip("/"), ring
        self._refusals = _Refusals()
        self._group: Grouped[Incoming, Stored] = Grouped(
            self._flush, most=200, flushers=2 if store.dialect == "postgresql" else 1
        )

    async def receive(
        self, connector_name: str, key: str, *, method: str, query: str, headers: Mapping[str, str], body: bytes
    ) -> Reply:
        """Recognise and store one call; returns what to answer.

        Raises Refused (unknown address, bad signature: the caller cannot tell which), StoreUnavailable.
        """
        try:
            owner, connector, webhook = await self._recognise(connector_name, key)
            path = f"/webhooks/{connector_name}/{key}"
            url = f"{self._public_url}{path}{f'?{query}' if query else ''}"
            request = InboundRequest(method, url, headers, body, self._clock.now_ms())
            secrets = await self._secrets(owner)
            if not secrets:
                raise SignatureError(f"no secret is configured; it needs one of {', '.join(webhook.secrets)}")
            greeting = webhook.handshake(request, secrets)
            if greeting is not None:
                return greeting
            webhook.verify(request, secrets)
        except IngressError as error:
            self._refuse(connector_name, key, str(error), headers, len(body))
            raise Refused(str(error)) from error
        incoming = self._incoming(owner, connector, webhook, request)
        await self._store_it(incoming)
        return webhook.reply(request)

    async def _secrets(self, owner: Connection | App) -> dict[str, str]:
        """The secrets that may verify a call. Raises StoreUnavailable when they do not open, so that the vendor tries again."""
        try:
            return await self._connections.webhook_secrets(owner)
        except ConfigError as error:
            _log.error(
                "a webhook cannot be verified", extra={"what": "secrets_closed", "owner": owner.id, "error": str(error)}
            )
            raise StoreUnavailable(str(error)) from error

    async def _store_it(self, incoming: Incoming) -> None:
        try:
            await self._group.submit(incoming)
        except StoreUnavailable:
            raise
        except Exception as error:  # something in it that the database cannot hold, such as a NUL: keep the call itself
            _log.exception(
                "a delivery's events cannot be stored", extra={"what": "delivery_odd", "delivery": incoming.id}
            )
            note = f"its events cannot be stored: {type(error).__name__}"
            await self._group.submit(replace(incoming, events=(), state="unreadable", note=note))

    async def _recognise(self, connector_name: str, key: str) -> tuple[Connection | App, Connector, Webhook]:
        owner = await self._connections.by_inbound_key(connector_name, key)
        if owner is None:
            raise SignatureError("no connection or app has this address")
        connector = self._catalogue.connectors.get(connector_name)
        if connector is None or connector.webhook is None:
            raise SignatureError("the connector of this address is not loaded or takes no webhooks")
        return owner, connector, connector.webhook

    def _incoming(
        self, owner: Connection | App, connector: Connector, webhook: Webhook, request: InboundRequest
    ) -> Incoming:
        """What will be stored of a verified call. What cannot be read is kept as it came, with the reason."""
        now_ms = self._clock.now_ms()
        app_id = owner.id if isinstance(owner, App) else None
        found = (
            owner
            if isinstance(owner, Connection)
            else self._connections.of_account(connector.name, webhook.account(request) or "", app_id)
        )
        state, note, parsed = "accepted", "", []
        topic = ""
        try:
            topic = webhook.topic(request)
            events = connector.parse(
                Delivery(
                    request=request,
                    connector=connector.name,
                    connection=found.name if found else "",
                    account=(found.account if found else webhook.account(request)) or "",
                    topic=topic,
                    received_at_ms=now_ms,
                )
            )
            if events is None:
                state, note = "unrecognised", f"no trigger takes the topic {topic or '(none)'}"
            elif len(events) > MAX_EVENTS:
                state, note = "unreadable", f"{len(events)} events in one delivery; the most is {MAX_EVENTS}"
            else:
                parsed = [self._new_event(connector, event, found, app_id) for event in events]
        except PayloadError as error:
            state, note = "unreadable", str(error)
        except Exception as error:  # a plugin's parse may raise anything; the delivery is kept with the reason
            _log.exception("a connector could not parse", extra={"what": "parse_failed", "connector": connector.name})
            state, note = "unreadable", f"the connector's parse failed: {type(error).__name__}"
        return Incoming(
            scope=owner.id,
            delivery_id=webhook.delivery_id(request),
            events=parsed,
            received_at_ms=now_ms,
            connector=connector.name,
            connection_id=found.id if found else "",
            topic=topic,
            request={
                "method": request.method,
                "url": request.url,
                "headers": {k: v for k, v in request.headers.items() if k not in _UNKEPT_HEADERS},
            },
            body=request.body,
            state=state,
            note=note,
        )

    def _new_event(self, connector: Connector, event: Event, found: Connection | None, app_id: str | None) -> NewEvent:
        if event.account is not None and (found is None or event.account != found.account):
            found = self._connections.of_account(connector.name, event.account, app_id)
        if found is None:
            return NewEvent(event, "", "", stage="unconnected", note="nobody connected this account")
        trigger = connector.triggers[event.type.partition(".")[2]]
        return NewEvent(event, found.id, found.name, stage="enrich" if trigger.enrich_ else "route")

    async def _flush(self, group: Sequence[Incoming]) -> Sequence[Stored]:
        async with self._store.write() as c:
            stored = await ingest(c, group)
            seams.reach("ingest.commit")
        seams.reach("ingest.committed")
        if any(s.event_ids for s in stored):
            self._ring()
        return stored

    # -- refusals --------------------------------------------------------------------------------------------------

    def refuse_large(self, connector: str, key: str, headers: Mapping[str, str], size: int) -> None:
        """Count a call that was refused for its size, before reading it."""
        self._refuse(connector, key, f"the body is larger than {MAX_BODY_BYTES:,} bytes", headers, size)

    def _refuse(self, connector: str, key: str, reason: str, headers: Mapping[str, str], size: int) -> None:
        # The key in a refused call is the caller's word; of known ones the hash tells the operator which it was.
        known = connector if connector in self._catalogue.connectors else "(unknown)"
        key_hash = hashlib.sha256(key.encode()).hexdigest()[:12]
        bucket = (
            known,
            key_hash if len(self._refusals.counts) < 1000 else "(many)",
            reason,
            self._clock.now_ms() // 60_000,
        )
        self._refusals.counts[bucket] = self._refusals.counts.get(bucket, 0) + 1
        samples = self._refusals.samples.setdefault(bucket, [])
        if len(samples) < _SAMPLES:
            samples.append({"at_ms": self._clock.now_ms(), "bytes": size, "headers": " ".join(sorted(headers))[:500]})

    async def flush_refusals(self) -> None:
        """Write the refusals counted so far. Called each second by the process; on failure they are kept and counted on."""
        if not self._refusals.counts:
            return
        taken, self._refusals = self._refusals, _Refusals()
        rows = [
            Refusal(*bucket, count, to_json(taken.samples[bucket]).decode()) for bucket, count in taken.counts.items()
        ]
        try:
            async with self._store.write() as c:
                await count_refusals(c, rows)
        except HubError:
            for bucket, count in taken.counts.items():
                self._refusals.counts[bucket] = self._refusals.counts.get(bucket, 0) + count
                self._refusals.samples.setdefault(bucket, taken.samples[bucket])
            raise
