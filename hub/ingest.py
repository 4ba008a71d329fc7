"""The door: a vendor's call is recognised, stored once, and only then answered.

Refusals never touch the database one by one; they are counted and flushed by `flush_refusals`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pydantic_core import to_json

from hub import seams
from hub.catalogue import Catalogue
from hub.clock import Clock
from hub.connections import App, Connection, Connections
from hub.connector import Connector, Delivery, InboundRequest, Privacy, Reply, Webhook
from hub.errors import ConfigError, HubError, IngressError, PayloadError, SignatureError, StoreUnavailable
from hub.events import Event
from hub.ids import key_hash
from hub.metrics import Metrics, word_of
from hub.spool import Spool
from hub.store.deliveries import MANY_ADDRESSES, NO_CONNECTOR, Refusal, count_refusals
from hub.store.events import Incoming, NewEvent, Stored, ingest
from hub.store.grouped import Full, Grouped
from hub.store.session import Store
from hub.traces import Traces

MAX_BODY_BYTES = 1_000_000
MAX_EVENTS = 1_000
# Kept with a delivery for re-verification; credentials of the caller never are.
_UNKEPT_HEADERS = {"authorization", "cookie", "proxy-authorization"}
_SAMPLES = 3
# Vendors wait for five seconds; both together leave the rest for everything else.
_STORE_PATIENCE_S, _SPOOL_PATIENCE_S = 2.0, 1.5
# How long a group may take before its connection is thought to be dead.
_FLUSH_LIMIT_S = 4.0
# Replay sees an outage every few seconds; if it stopped looking, deliveries look for themselves again.
_OUTAGE_SEEN_S = 10.0
# Bodies in hand at once; more is turned away, since memory is where they are until they are stored.
_MOST_IN_HAND_BYTES = 256_000_000

_log = logging.getLogger(__name__)


class Refused(IngressError):
    """The call was refused. `reason` is for the operator; the caller learns nothing from it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class TooLarge(IngressError):
    """The body is larger than the hub takes."""


class TooMany(IngressError):
    """More calls came than one address takes, or its caller was refused too often."""


class UnknownAddress(SignatureError):
    """Nothing that takes webhooks has this address."""


@dataclass
class _Refusals:
    """Refusals since the last flush: (connector, key hash, reason, minute) to how many, with a few samples."""

    counts: dict[tuple[str, str, str, int], int] = field(default_factory=dict)
    samples: dict[tuple[str, str, str, int], list[dict[str, str | int]]] = field(default_factory=dict)


@dataclass
class _Outage:
    """Since when the database takes nothing, when that was last seen, and what became of the deliveries meanwhile."""

    since: float = field(default_factory=time.monotonic)
    seen: float = field(default_factory=time.monotonic)
    spooled: int = 0
    turned_away: int = 0


class Ingest:
    """Takes the calls of one process. `ring` is called after events were committed.

    What the database does not take at once goes to the `spool`, if there is one; else, or when that is full, the vendor is
    told to repeat. `turned_away` counts these since the start.
    """

    def __init__(
        self,
        store: Store,
        connections: Connections,
        catalogue: Catalogue,
        clock: Clock,
        *,
        public_url: str,
        ring: Callable[[], None],
        metrics: Metrics,
        traces: Traces,
        spool: Spool | None = None,
    ) -> None:
        self._store, self._connections, self._catalogue, self._clock = store, connections, catalogue, clock
        self._metrics, self._traces = metrics, traces
        self._public_url, self._ring = public_url.rstrip("/"), ring
        self.spool = spool
        self._outage: _Outage | None = None
        self._in_hand_bytes = 0
        self.turned_away = 0
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
        began_ns = time.time_ns()
        try:
            owner, connector, webhook = await self._recognise(connector_name, key)
            path = f"/webhooks/{connector_name}/{key}"
            url = f"{self._public_url}{path}{f'?{query}' if query else ''}"
            request = InboundRequest(method, url, headers, body, self._clock.now_ms())
            secrets = await self._secrets(owner)
            greeting = webhook.handshake(request, secrets) if secrets or webhook.greets_first else None
            if greeting is not None:
                return greeting
            if not secrets:
                raise SignatureError(f"no secret is configured; it needs one of {', '.join(webhook.secrets)}")
            webhook.verify(request, secrets)
        except IngressError as error:
            self._refuse(connector_name, key, error, headers, len(body))
            raise Refused(str(error)) from error
        incoming = self._incoming(owner, connector, webhook, request)
        self._tell(incoming, await self._store_it(incoming), began_ns)
        return webhook.reply(request)

    def _tell(self, incoming: Incoming, stored: Stored | None, began_ns: int) -> None:
        """Operators are told of a delivery that was taken; one that is not stored is in the spool."""
        outcome = "spooled" if stored is None else "duplicate" if stored.duplicate_delivery else incoming.state
        self._metrics.ingested(incoming.connector, outcome)
        facts = {"delivery": incoming.id, "connector": incoming.connector, "outcome": outcome}
        _log.debug("a delivery is taken", extra={"what": "delivery_taken", **facts})
        if stored is not None:
            self._traces.delivered(stored.event_ids, began_ns, connector=incoming.connector, outcome=outcome)

    async def _secrets(self, owner: Connection | App) -> dict[str, str]:
        """The secrets that may verify a call. Raises StoreUnavailable when they do not open, so that the vendor tries again."""
        try:
            return await self._connections.webhook_secrets(owner)
        except ConfigError as error:
            _log.error(
                "a webhook cannot be verified", extra={"what": "secrets_closed", "owner": owner.id, "error": str(error)}
            )
            raise StoreUnavailable(str(error)) from error

    # -- storing ---------------------------------------------------------------------------------------------------

    @property
    def is_spooling(self) -> bool:
        """Whether deliveries go to the spool without asking the database first: it failed lately, and replay asks for all."""
        if self._outage is None or self.spool is None or not self.spool.depth.records:
            return False
        return time.monotonic() - self._outage.seen < _OUTAGE_SEEN_S

    @property
    def accepts(self) -> bool:
        """Whether deliveries are taken while the database is away."""
        return self.spool is not None and self.spool.accepts

    async def _store_it(self, incoming: Incoming) -> Stored | None:
        """Store a delivery, or keep it in the spool (None), within the time that vendors wait. Raises StoreUnavailable."""
        size = len(incoming.body or b"")
        if self._in_hand_bytes + size > _MOST_IN_HAND_BYTES:
            raise self._turned_away(incoming, Full())
        self._in_hand_bytes += size
        try:
            if not self.is_spooling:
                try:
                    return await self._commit(incoming, patience_s=_STORE_PATIENCE_S)
                except StoreUnavailable as error:
                    self._see_outage(error)
            await self._keep(incoming)
            return None
        finally:
            self._in_hand_bytes -= size

    async def _commit(self, incoming: Incoming, *, patience_s: float) -> Stored:
        until = time.monotonic() + patience_s
        try:
            return await self._group.submit(incoming, patience_s=patience_s)
        except StoreUnavailable:
            raise
        except Exception as error:  # something in it that the database cannot hold, such as a NUL: keep the call itself
            bare, left_s = _without_events(incoming, error), max(0.0, until - time.monotonic())
            return await self._group.submit(bare, patience_s=left_s)

    async def _keep(self, incoming: Incoming) -> None:
        if self.spool is None:
            raise self._turned_away(incoming, StoreUnavailable())
        try:
            await self.spool.keep(incoming, patience_s=_SPOOL_PATIENCE_S)
        except StoreUnavailable as error:
            raise self._turned_away(incoming, error) from error
        except ValueError as error:  # half a character, which is no JSON
            await self._keep(_without_events(incoming, error))
        if self._outage is not None:
            self._outage.spooled += 1

    async def store_kept(self, group: Sequence[Incoming]) -> None:
        """T1 for deliveries out of the spool. Raises StoreUnavailable."""
        began_ns = time.time_ns()
        try:
            for incoming, stored in zip(group, await self._flush(group, urgent=False), strict=True):
                self._traces.delivered(stored.event_ids, began_ns, connector=incoming.connector, outcome="replayed")
        except StoreUnavailable as error:
            self._see_outage(error)
            raise
        except Exception:  # whatever it was, one of them caused it
            _log.exception("a group of the spool cannot be stored", extra={"what": "spool_odd"})
            for one in group:
                await self._commit(one, patience_s=_FLUSH_LIMIT_S)

    def _see_outage(self, error: StoreUnavailable) -> None:
        if self._outage is not None:
            self._outage.seen = time.monotonic()
        else:
            self._outage = _Outage()
            _log.warning("deliveries cannot be stored now", extra={"what": "ingest_outage", "error": str(error)})

    def _end_outage(self, outage: _Outage) -> None:
        self._outage = None
        _log.info(
            "deliveries are stored again",
            extra={
                "what": "ingest_outage_over",
                "duration_ms": int((time.monotonic() - outage.since) * 1000),
                "spooled": outage.spooled,
                "turned_away": outage.turned_away,
            },
        )

    def _turned_away(self, incoming: Incoming, error: StoreUnavailable) -> StoreUnavailable:
        """Count a delivery that its vendor is told to repeat; the first one of an outage is logged."""
        self.turned_away += 1
        self._metrics.ingested(incoming.connector, "unavailable")
        self._see_outage(error)
        assert self._outage is not None, "it was just begun, if it was not yet"
        self._outage.turned_away += 1
        if self._outage.turned_away == 1:
            _log.warning("deliveries are turned away", extra={"what": "ingest_turned_away", "error": str(error)})
        return error

    async def _recognise(self, connector_name: str, key: str) -> tuple[Connection | App, Connector, Webhook]:
        owner = await self._connections.by_inbound_key(connector_name, key)
        if owner is None:
            raise UnknownAddress("no connection or app has this address")
        connector = self._catalogue.connectors.get(connector_name)
        if connector is None or connector.webhook is None:
            raise UnknownAddress("the connector of this address is not loaded or takes no webhooks")
        return owner, connector, connector.webhook

    def _incoming(
        self, owner: Connection | App, connector: Connector, webhook: Webhook, request: InboundRequest
    ) -> Incoming:
        """What will be stored of a verified call. What cannot be read is kept as it came, with the reason."""
        now_ms = self._clock.now_ms()
        app_id = owner.id if isinstance(owner, App) else owner.app_id
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
            # Whoever knows the secret of one account says nothing for another; those of an app share its secret.
            found = self._connections.of_account(connector.name, event.account, app_id) if app_id else None
        trigger = connector.triggers[event.type.partition(".")[2]]
        if found is None and app_id and trigger.privacy is Privacy.ERASE_PERSON:
            # Whoever wants to be erased is, also where the account is not connected any more.
            return NewEvent(event, "", "")
        if found is None:
            note = "nobody connected this account" + ("" if app_id else " under an app that this address is of")
            return NewEvent(event, "", "", stage="unconnected", note=note)
        return NewEvent(event, found.id, found.name, stage="enrich" if trigger.enrich_ else "route")

    async def _flush(self, group: Sequence[Incoming], *, urgent: bool = True) -> Sequence[Stored]:
        async with self._store.write(urgent=urgent, limit_s=_FLUSH_LIMIT_S) as c:
            stored = await ingest(c, group)
            seams.reach("ingest.commit")
        seams.reach("ingest.committed")
        self._metrics.grouped("ingest", len(group))
        if self._outage is not None:
            self._end_outage(self._outage)
        if any(s.event_ids for s in stored):
            self._ring()
        return stored

    # -- refusals --------------------------------------------------------------------------------------------------

    def refuse_flood(self, connector: str, key: str) -> None:
        """Count a call that was not even read, since there were too many."""
        self._refuse(connector, key, TooMany(), {}, 0)

    def refuse_large(self, connector: str, key: str, headers: Mapping[str, str], size: int) -> None:
        """Count a call that was refused for its size, before reading it."""
        self._refuse(connector, key, TooLarge(f"the body is larger than {MAX_BODY_BYTES:,} bytes"), headers, size)

    def _refuse(self, connector: str, key: str, why: IngressError, headers: Mapping[str, str], size: int) -> None:
        # The key in a refused call is the caller's word; of known ones the hash tells the operator which it was.
        known = connector if connector in self._catalogue.connectors else NO_CONNECTOR
        self._metrics.refused(known, word_of(why))
        bucket = (
            known,
            key_hash(key) if len(self._refusals.counts) < 1000 else MANY_ADDRESSES,
            str(why),
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
        for (connector, address, reason, _), count in taken.counts.items():
            # Once a second and reason, however many there are: a flood of calls is none of lines.
            facts = {"connector": connector, "address": address, "reason": reason, "count": count}
            _log.info("calls were refused", extra={"what": "webhook_refused", **facts})
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


def _without_events(incoming: Incoming, error: Exception) -> Incoming:
    """The bare call of a delivery whose events nothing can hold."""
    _log.error(
        "a delivery's events cannot be stored", exc_info=error, extra={"what": "delivery_odd", "delivery": incoming.id}
    )
    return replace(incoming, events=(), state="unreadable", note=f"its events cannot be stored: {type(error).__name__}")
