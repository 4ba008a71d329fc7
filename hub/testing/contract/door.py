"""Calls of the vendor, sent through the hub's own door: believed or not, taken once, read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode

from hub import shown
from hub.clock import Clock
from hub.connector import Connector, Delivery, Hmac, InboundRequest, Trigger, Webhook
from hub.errors import ConfigError, IngressError
from hub.events import Event
from hub.process import Hub
from hub.store import views
from hub.testing import fixtures
from hub.testing.context import sandbox_fields
from hub.testing.contract.stage import hub_of, listening
from hub.testing.fixtures import Fixture

if TYPE_CHECKING:
    from hub.testing.contract import Contract

_UNKNOWN = "a_field_that_nobody_knows"
_OLD_MS = 24 * 3_600_000


@dataclass(frozen=True, kw_only=True)
class Call:
    """A vendor's call that is to be signed. `url` is the address as the vendor knows it, with its query string."""

    url: str
    body: bytes
    topic: str
    account: str
    delivery_id: str
    secret: str
    at_ms: int


def signed_by_hmac(connector: Connector, call: Call) -> Mapping[str, str]:
    """The headers of a call to a connector whose webhook is an `Hmac`."""
    webhook = connector.webhook
    assert isinstance(webhook, Hmac), (
        f"the contract cannot sign like {connector.title}, whose webhook is no Hmac: give your contract a method "
        "`sign(self, call)` that returns the headers the vendor would send"
    )
    given = {"topic": call.topic, "account": call.account, "delivery_id": call.delivery_id, "at_ms": call.at_ms}
    return webhook.headers(call.body, call.secret, **given)  # type: ignore[arg-type]  # each as declared


# -- making calls ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Sender:
    """Sends one fixture as the vendor would."""

    suite: Contract
    trigger: Trigger[Any]
    fixture: Fixture

    def request(
        self,
        url: str = "https://hub.example/in",
        *,
        delivery_id: str = "d-1",
        secret: str | None = None,
        topic: str | None = None,
        age_ms: int = 0,
    ) -> InboundRequest:
        """The signed call. Raises AssertionError where it is none that the trigger would take."""
        connector, now_ms = self.suite.connector, Clock().now_ms()
        url = f"{url}?{self.fixture.query}" if self.fixture.query else url
        topic = topic or self.fixture.topic or next(iter(self.trigger.topics), "")
        headers = {"content-type": _content_type(self.fixture.body), **self.fixture.headers}
        webhook = connector.webhook
        if webhook is not None:
            fields = sandbox_fields(connector, self.suite.settings)
            call = Call(
                url=url,
                body=self.fixture.body,
                topic=topic,
                account=connector.account(fields),
                delivery_id=delivery_id,
                secret=secret or next((fields[name] for name in webhook.secrets if fields.get(name)), ""),
                at_ms=now_ms - age_ms,
            )
            headers |= {name.lower(): value for name, value in self.suite.sign(call).items()}
        return InboundRequest(self.fixture.method, url, headers, self.fixture.body, now_ms)

    def parse(self) -> list[Event]:
        """The events of the call. Raises what parsing raises."""
        connector, request = self.suite.connector, self.request()
        account = connector.account(sandbox_fields(connector, self.suite.settings))
        called = connector.webhook if self.trigger.topics else None
        topic = called.topic(request) if called else next(iter(self.trigger.topics), "")
        if called:
            assert topic in self.trigger.topics, (
                f"the call of {self.trigger.type} has the topic {topic or '(none)'}, and the trigger takes "
                f"{', '.join(self.trigger.topics)}: mend the fixture, `sign` or the trigger's `topic`"
            )
        delivery = Delivery(request, connector.name, connector.name, account, topic, request.received_at_ms)
        if called:
            return connector.parse(delivery) or []
        # Of a trigger that comes by no call a sample is what its poll's pages hold: one item, as JSON.
        assert self.trigger.parse is not None, "only triggers that parse are asked"
        return [self.trigger.event(payload, 0) for payload in self.trigger.parse(delivery)]


def _sender(suite: Contract, name: str) -> _Sender:
    trigger = suite.connector.triggers[name]
    try:
        return _Sender(suite, trigger, fixtures.read(suite.sample(trigger)))
    except ConfigError as error:
        raise AssertionError(str(error)) from None


def _content_type(body: bytes) -> str:
    return "application/json" if body.lstrip()[:1] in (b"{", b"[") else "application/x-www-form-urlencoded"


async def _receive(hub: Hub, connector: Connector, request: InboundRequest) -> str | None:
    """Send a call to the door; None when it was taken, else why it was refused. Raises what the connector raises."""
    connection = await hub.connections.by_name(connector.name)
    given = {"method": request.method, "headers": request.headers, "body": request.body}
    query = request.url.partition("?")[2]
    try:
        await hub.ingest.receive(connector.name, connection.inbound_key, query=query, **given)  # type: ignore[arg-type]
    except IngressError as error:
        return str(error)
    return None


async def _address(hub: Hub, connector: Connector) -> str:
    return hub.connections.inbound_url(await hub.connections.by_name(connector.name))


async def _events(hub: Hub) -> list[shown.EventLine]:
    async with hub.store.read() as c:
        return await views.list_events(c, most=1000)


# -- what is read ------------------------------------------------------------------------------------------------------


def prove_sample(suite: Contract, name: str) -> None:
    """A trigger's sample parses to an event of that trigger, or it is said where it does not, and what to mend."""
    sender = _sender(suite, name)
    path = suite.sample(sender.trigger)
    try:
        events = sender.parse()
    except (AssertionError, ImportError):
        raise
    except Exception as error:  # a connector may raise anything over a file; the sentence says which, and where
        raise AssertionError(fixtures.explain(error, sender.trigger, path)) from None
    fixtures.require(events, sender.trigger, path)


def prove_unknown_field(suite: Contract, name: str) -> None:
    """A field that the vendor adds tomorrow changes nothing."""
    sender = _sender(suite, name)
    usual = fixtures.require(sender.parse(), sender.trigger, suite.sample(sender.trigger))
    try:
        events = replace(sender, fixture=replace(sender.fixture, body=_with_unknown(sender.fixture.body))).parse()
    except IngressError as error:
        raise AssertionError(
            f"{sender.trigger.type} refuses a call for a field it does not know, as vendors add them at any time "
            f"({error}): let {sender.trigger.payload.__name__} ignore other fields"
        ) from None
    facts = [(event.type, event.fact_id) for event in events if event.type == sender.trigger.type]
    assert facts == [(event.type, event.fact_id) for event in usual], (
        f"{sender.trigger.type} makes other events of a call with a field it does not know: {facts}"
    )


def _with_unknown(body: bytes) -> bytes:
    """The same body with one field more, in each object at its top."""
    try:
        content = json.loads(body)
    except ValueError:
        return urlencode([*parse_qsl(body.decode(), keep_blank_values=True), (_UNKNOWN, "1")]).encode()
    for one in content if isinstance(content, list) else [content]:
        if isinstance(one, dict):
            one[_UNKNOWN] = {"new": True}
    return json.dumps(content).encode()


# -- what is believed --------------------------------------------------------------------------------------------------


async def prove_signature(suite: Contract, name: str) -> None:
    """A signed call is taken; one that was changed, signed by somebody else, or not signed, is refused."""
    connector, sender = suite.connector, _sender(suite, name)
    with listening() as lines:
        async with hub_of(connector, suite.settings, suite.extra) as (hub, _):
            good = sender.request(await _address(hub, connector))
            reason = await _receive(hub, connector, good)
            assert reason is None, f"{connector.name} refuses its own signed call of {name}: {reason}"
            for what, bad in _forged(sender, good).items():
                try:
                    reason = await _receive(hub, connector, bad)
                except Exception as error:  # a connector may raise anything over a call; it is said what to raise
                    raise AssertionError(
                        f"{connector.name}'s webhook raises {type(error).__name__} for a call {what}; raise "
                        "SignatureError, so that the call is refused"
                    ) from error
                assert reason is not None, f"{connector.name} takes a call {what}; compare all of it with `same`"
                _hold_back(reason, suite, f"the refusal of a call {what}")
            await hub.ingest.flush_refusals()
    _hold_back("\n".join(lines), suite, "a log line about a call")


def _forged(sender: _Sender, good: InboundRequest) -> dict[str, InboundRequest]:
    """Calls that look like a good one and must not be taken, by what is wrong with them."""
    url = good.url.partition("?")[0]
    unsigned = {"content-type": good.headers["content-type"], **sender.fixture.headers}
    signed = sender.request(url, secret="somebody else's").headers  # noqa: S106  (it must not work)
    changed = bytes([*good.body[:-1], good.body[-1] ^ 1])
    return {
        "whose body was changed": replace(good, body=changed),
        "that somebody else signed": replace(good, headers=signed),
        "without a signature": replace(good, headers={n: v for n, v in unsigned.items() if "sign" not in n}),
    }


def signs_a_time(suite: Contract) -> bool:
    """Whether the vendor's signature says when it was made, as far as the suite's `sign` does."""
    fields = {
        "url": "https://hub.example/in",
        "body": b"{}",
        "topic": "",
        "account": "",
        "delivery_id": "d",
        "secret": "s",
    }
    try:
        early, late = (suite.sign(Call(**fields, at_ms=at_ms)) for at_ms in (0, _OLD_MS))  # type: ignore[arg-type]
    except AssertionError:
        return False  # said by the test of the signature itself
    return early != late


async def prove_stale(suite: Contract, name: str) -> None:
    """A call that was signed a day ago is refused, though its signature is good."""
    connector, sender = suite.connector, _sender(suite, name)
    async with hub_of(connector, suite.settings, suite.extra) as (hub, _):
        reason = await _receive(hub, connector, sender.request(await _address(hub, connector), age_ms=_OLD_MS))
    assert reason is not None, (
        f"{connector.name} takes a call that was signed a day ago: compare the time that is signed with "
        "`request.received_at_ms`, and raise StaleError"
    )


async def prove_unknown_kind(suite: Contract) -> None:
    """A signed call of a kind that no trigger takes is answered 2xx and kept, and makes no event."""
    connector = suite.connector
    assert connector.webhook is not None, "only connectors with a webhook are asked"
    sender = _sender(suite, next(name for name, t in connector.triggers.items() if t.parse is not None))
    known = {topic for trigger in connector.triggers.values() for topic in trigger.topics}
    async with hub_of(connector, suite.settings, suite.extra) as (hub, _):
        address = await _address(hub, connector)
        request = sender.request(address, topic=_UNKNOWN)
        if _kind_of(connector.webhook, request) in known:
            # The kind stands in the body: one that says nothing.
            is_json = _content_type(sender.fixture.body) == "application/json"
            bare = replace(sender.fixture, body=b"{}" if is_json else f"{_UNKNOWN}=1".encode())
            request = replace(sender, fixture=bare).request(address)
        reason = await _receive(hub, connector, request)
        assert reason is None, f"{connector.name} refuses a signed call of a kind it does not know: {reason}"
        async with hub.store.read() as c:
            kept = await c.all("select state, note from delivery")
        assert len(kept) == 1, f"a signed call of a kind that {connector.name} does not know is not kept"
        assert "parse failed" not in kept[0]["note"], (
            f"{connector.name} cannot read a call of a kind it does not know ({kept[0]['note']}): return nothing, or raise "
            "PayloadError"
        )
        assert not await _events(hub), f"{connector.name} makes an event of a call of a kind it does not know"


async def prove_privacy(suite: Contract, name: str) -> None:
    """Nobody's address stands in a log line or a note about a call, whether it can be read or not."""
    connector, sender = suite.connector, _sender(suite, name)
    whose = [event.subject for event in sender.parse() if event.subject]
    people = {value for one in whose for value in (one.email, one.phone) if value}
    told: dict[str, str] = {}
    with listening() as lines:
        async with hub_of(connector, suite.settings, suite.extra) as (hub, _):
            address = await _address(hub, connector)
            for what, body in {"good": sender.fixture.body, "broken": _broken(sender.fixture.body)}.items():
                odd = replace(sender, fixture=replace(sender.fixture, body=body))
                await _receive(hub, connector, odd.request(address, delivery_id=what))
            await hub.ingest.flush_refusals()
            async with hub.store.read() as c:
                notes = [*await c.all("select note from delivery"), *await c.all("select reason as note from refusal")]
    told["a note about a call"] = " ".join(row["note"] for row in notes)
    told["a log line about a call"] = "\n".join(lines)
    for where, text in told.items():
        assert not any(one in text for one in people), (
            f"{where} of {name} holds somebody's address: name the field, never its value"
        )


def _kind_of(webhook: Webhook, request: InboundRequest) -> str | None:
    """What a call is about; None where the webhook cannot say, which the door will find out by itself."""
    try:
        return webhook.topic(request)
    except Exception:  # a connector may raise anything over a call
        return None


def _broken(body: bytes) -> bytes:
    """A body none of whose values is of the right kind."""
    try:
        content = json.loads(body)
    except ValueError:
        return urlencode(
            [(f"{key}-", value) for key, value in parse_qsl(body.decode(), keep_blank_values=True)]
        ).encode()
    return json.dumps(
        [content] if not isinstance(content, dict) else {key: [value] for key, value in content.items()}
    ).encode()


async def prove_missing_secret(suite: Contract) -> None:
    """Without any of the secrets configured every call is refused, also a signed one."""
    connector = suite.connector
    assert connector.webhook is not None, "only connectors with a webhook are asked"
    sender = _sender(suite, next(name for name, t in connector.triggers.items() if t.parse is not None and t.topics))
    async with hub_of(connector, suite.settings, suite.extra) as (hub, _):
        connection = await hub.connections.by_name(connector.name)
        fields = await hub.connections.fields(connection)
        left = {name: value for name, value in fields.items() if name not in connector.webhook.secrets}
        kind = next(kind for kind in connector.auth if kind.name == connection.auth)
        await hub.connections.replace(connection, connector, kind, connection.account, left)
        reason = await _receive(hub, connector, sender.request(await _address(hub, connector)))
        assert reason is not None, f"{connector.name} takes a call while no secret is configured"


def secrets_of(suite: Contract) -> set[str]:
    """The generated credentials of the suite's connection."""
    connector = suite.connector
    fields = sandbox_fields(connector, suite.settings)
    secret = {f.name for f in (*connector.fields, *(f for kind in connector.auth for f in kind.fields)) if f.secret}
    return {value for name, value in fields.items() if name in secret}


def _hold_back(text: str, suite: Contract, where: str) -> None:
    told = [secret for secret in secrets_of(suite) if secret in text]
    assert not told, f"{where} of {suite.connector.name} holds a secret; name the field, never its value"


# -- what comes twice --------------------------------------------------------------------------------------------------


async def prove_replay(suite: Contract, name: str) -> None:
    """The very same delivery, sent twice, is answered twice and makes its events once."""
    await _twice(suite, name, ("d-1", "d-1"), "the same delivery")


async def prove_doubled_subscription(suite: Contract, name: str) -> None:
    """The same fact under another delivery id, as a doubled subscription sends it, makes its events once."""
    await _twice(suite, name, ("d-1", "d-2"), "the same fact under another delivery id")


async def _twice(suite: Contract, name: str, delivery_ids: tuple[str, str], what: str) -> None:
    connector, sender = suite.connector, _sender(suite, name)
    async with hub_of(connector, suite.settings, suite.extra) as (hub, _):
        made = []
        for delivery_id in delivery_ids:
            reason = await _receive(
                hub, connector, sender.request(await _address(hub, connector), delivery_id=delivery_id)
            )
            assert reason is None, f"{connector.name} refuses a signed call of {name}: {reason}"
            made.append(len(await _events(hub)))
    assert made[0], f"a signed call of {sender.trigger.type} made no event; does its sample parse?"
    assert made[0] == made[1], (
        f"{sender.trigger.type} makes a second event of {what}: let `fact` name what happened, from the payload alone, "
        "and not when or how it was told"
    )
