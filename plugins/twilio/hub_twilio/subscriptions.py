"""Where Twilio sends incoming messages: the one address of each number and of each Messaging Service.

An address of somebody else's is never replaced: the hub says so, and somebody decides. What was free is freed again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

from hub import ActionContext, NotFound, Rejected, Subscription, Subscriptions, e164
from hub_twilio.client import MESSAGING, Number, Service, allowed_to, numbers, read, services

# See `sending.REPEAT_CALLBACKS`; by default Twilio calls once more, and only when no connection was made.
REPEAT_CALLS = "#rc=3&rp=ct,rt,5xx"

# What Twilio's own document shows as a number's address: a demonstration that answers with a greeting, nobody's tool
# (OpenAPI document 2.6.7, IncomingPhoneNumber).
_DEMONSTRATION = "demo.twilio.com"
_TOPIC = "message"


class _Place(NamedTuple):
    """A number or a service: where and by which parameters it is changed, and why its address is not called, if it is not."""

    sid: str
    topic: str
    address: str
    path: str
    url_field: str
    method_field: str
    unused: str


def places(settings: Mapping[str, str]) -> list[str]:
    """The numbers and services whose messages the connection wants: as set, or its default senders."""
    if named := settings.get("receive_on"):
        return list(dict.fromkeys(one.strip() for one in named.split(",")))
    number, service = settings.get("from_number", ""), settings.get("messaging_service_sid", "")
    # Short codes and alphanumeric senders have no address that could be set here.
    return [one for one in (number if number == e164(number) else "", service) if one]


class InboundAddresses(Subscriptions):
    """Each number and each service is a topic of its own: `message:+14155550199`."""

    async def wanted(self, ctx: ActionContext, topics: Sequence[str]) -> Sequence[str]:
        # Status callbacks need none: each message carries its own address.
        return [f"{_TOPIC}:{place}" for place in places(ctx.settings)] if _TOPIC in topics else []

    async def list(self, ctx: ActionContext) -> Sequence[Subscription]:
        with allowed_to("list its numbers and Messaging Services"):
            found = [_of_number(number) async for number in numbers(ctx)]
            found += [_of_service(service) async for service in services(ctx)]
        return [_subscription(place) for place in found if place.address]

    async def create(self, ctx: ActionContext, topic: str, address: str) -> Subscription:
        """Raises Rejected where somebody else's address is, or where the address would not be called."""
        place = await self._place(ctx, topic.partition(":")[2])
        if place.unused:
            raise Rejected(place.unused)
        if place.address and not _is_replaceable(place.address, address):
            raise Rejected(
                f"Twilio sends messages to {topic.partition(':')[2]} to {urlsplit(place.address).hostname} already; if the "
                "hub shall have them, remove that address in the console, and the hub sets its own"
            )
        await _set(ctx, place, f"{address}{REPEAT_CALLS}")
        return _subscription(place._replace(address=address))

    async def delete(self, ctx: ActionContext, subscription: Subscription) -> None:
        try:
            place = await self._place(ctx, subscription.topic.partition(":")[2])
        except NotFound:
            return
        if _bare(place.address) == subscription.address:
            await _set(ctx, place, "")

    async def _place(self, ctx: ActionContext, name: str) -> _Place:
        """A number or service as it stands. Raises NotFound."""
        if name.startswith("MG"):
            return _of_service(read(Service, await ctx.http.request("GET", f"{MESSAGING}/v1/Services/{name}")))
        async for number in numbers(ctx, name):
            return _of_number(number)
        raise NotFound(f"{name} is no number of this account; correct receive_on, or the default sender")


def _of_number(number: Number) -> _Place:
    unused = f"the number {number.phone_number} belongs to a TwiML application, whose address counts; take it out of it"
    return _Place(
        sid=number.sid,
        topic=f"{_TOPIC}:{number.phone_number}",
        address=number.sms_url or "",
        path=f"/IncomingPhoneNumbers/{number.sid}.json",
        url_field="SmsUrl",
        method_field="SmsMethod",
        unused=unused if number.sms_application_sid else "",
    )


def _of_service(service: Service) -> _Place:
    unused = f"the Messaging Service {service.sid} leaves it to its numbers; name those in receive_on instead"
    return _Place(
        sid=service.sid,
        topic=f"{_TOPIC}:{service.sid}",
        address=service.inbound_request_url or "",
        path=f"{MESSAGING}/v1/Services/{service.sid}",
        url_field="InboundRequestUrl",
        method_field="InboundMethod",
        unused=unused if service.use_inbound_webhook_on_number else "",
    )


def _subscription(place: _Place) -> Subscription:
    address = _bare(place.address)
    # One place holds one address: another address there is another subscription.
    mark = hashlib.sha256(address.encode()).hexdigest()[:8]
    return Subscription(id=f"{place.sid}:{mark}", topic=place.topic, address=address)


def _bare(address: str) -> str:
    """An address without its wishes for repeats."""
    return address.partition("#")[0]


def _is_replaceable(there: str, ours: str) -> bool:
    """Whether an address was given by this hub, perhaps under a former public URL, or leads to nobody."""
    parts = urlsplit(there)
    key = urlsplit(ours).path.rpartition("/")[2]
    return parts.hostname == _DEMONSTRATION or (bool(key) and parts.path.rstrip("/").rpartition("/")[2] == key)


async def _set(ctx: ActionContext, place: _Place, address: str) -> None:
    form = {place.url_field: address, **({place.method_field: "POST"} if address else {})}
    with allowed_to("set where messages are sent to"):
        await ctx.http.request("POST", place.path, form=form)
