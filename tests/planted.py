"""A planted person: traces of every kind in a hub with Acme and Guestbook, and where of them anything is left."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from hub.store import erasures, schema, views
from hub.store.session import Store
from tests import guestbook
from tests.conftest import Running

EMAIL, PHONE, GUEST = "planted.person@example.org", "+14155550163", "guest-77123"
NAMES = ("Plantina", "Wurzelmann")
BODY = "a body with a secret wish"
WORDS = (EMAIL, PHONE, PHONE.lstrip("+"), EMAIL.replace("@", "%40"), GUEST, *NAMES, BODY)
PERSON = {"email": EMAIL, "phone": PHONE, "first_name": NAMES[0]}
DAY = 24 * 3600_000

DONE = """
recipe: done
on: {event: acme.signed_up}
steps:
  - if: {trigger.first_name: Nobody}
    then: [{stop: nobody}]
  - {do: acme.put_note, with: {key: "{{ trigger.id }}", text: "{{ trigger.first_name }} has {{ trigger.words }}"}, as: note}
  - {do: acme.send_text, purpose: orders, with: {to: "{{ trigger.phone }}", body: "{{ trigger.first_name }}, {{ steps.note.key }}"}}
"""
PENDING = """
recipe: pending
on: {event: acme.signed_up}
exit_on: [{event: acme.purchased}]
entry: {per: "{{ trigger.email }}", at_most: 3, within: 30d}
steps:
  - wait: 7d
  - {do: acme.send_text, purpose: orders, with: {to: "{{ trigger.phone }}", body: "still there?"}}
"""
WAITING = """
recipe: waiting
on: {event: acme.clicked}
steps:
  - wait_for:
      bought: {event: acme.purchased, match: {event.cart: "{{ trigger.email }}"}}
    timeout: 30d
  - {do: acme.put_note, with: {key: "{{ trigger.email }}"}}
"""
LISTED = """
recipe: listed
on: {event: acme.clicked}
steps:
  - {do: acme.add_members, with: {audience: "of {{ trigger.email }}", email: "{{ trigger.email }}"}}
"""
OTHERS = """
recipe: others
on: {event: acme.delivered, where: {event.cart: "nobody's"}}
steps:
  - {do: acme.put_note, with: {key: x}}
"""


async def tell(it: Running, topic: str, body: Any, *, delivery: str | None = None, key: str | None = None) -> int:
    """Guestbook sends a webhook."""
    connection = await it.hub.connections.by_name("guestbook")
    raw, headers = guestbook.delivered(topic, body, delivery=delivery or f"{topic}-{body['id']}")
    reply = await it.hub.ingest.receive(
        "guestbook", key or connection.inbound_key, method="POST", query="", headers=headers, body=raw
    )
    return reply.status


async def plant(it: Running) -> None:
    """Somebody leaves traces of every kind."""
    for recipe in (DONE, PENDING, WAITING, LISTED, OTHERS):
        await it.publish(recipe)
    at = {"at": "2026-01-02T10:00:00Z"}
    await tell(it, "signed", {"id": "g1", **PERSON, "guest": GUEST, "text": BODY, "letters": "granted", **at})
    await it.rest()
    await it.deliver("signed_up", {"id": "s1", **PERSON, "words": [NAMES[1], BODY], "sms_ok": True}, delivery="d1")
    await it.deliver("carted", {"id": "c1", **PERSON, "cart": EMAIL}, delivery="d2")
    await it.deliver("clicked", {"id": "k1", **PERSON, "words": [BODY]}, delivery="d3")
    await it.deliver("delivered", {"id": "o1", "email": EMAIL, "cart": NAMES[0]}, delivery="d4")
    # what nobody can read, what belongs to nobody, and what others say about them
    await it.deliver("signed_up", {"nothing": f"to read, {EMAIL}"}, delivery="d5")
    await it.deliver("nonsense", f"phone={PHONE.replace('+', '%2B')}", delivery="d6")
    await it.deliver("purchased", {"id": "p1", "email": EMAIL, "account": "unknown"}, delivery="d7")
    await it.deliver("delivered", {"id": "o2", "email": "friend@example.org", "words": [f"for {EMAIL.upper()}"]})
    await it.rest()


async def left_in(store: Store, words: Iterable[str] = WORDS) -> list[tuple[str, str, str]]:
    """Where any of these words stands in any column of any table."""
    found = []
    async with store.read() as c:
        for table in schema.metadata.sorted_tables:
            for row in await c.all(f"select * from {table.name}"):
                for name, value in row.items():
                    text = value if isinstance(value, bytes) else str(value).encode()
                    found += [(table.name, name, word) for word in words if word.lower().encode() in text.lower()]
    return found


async def person(it: Running) -> str:
    async with it.hub.store.read() as c:
        return await views.find_contact(c, EMAIL)


async def erase(it: Running, *, reason: str = "they asked") -> dict[str, Any]:
    """Order it, and wait until all is done; returns the record."""
    done = await it.hub.erasing.erase(await person(it), reason=reason, who="tester")
    it.hub.ring()
    return await ended(it, done["id"])


async def until_done(it: Running, id_: str) -> dict[str, Any]:
    """Wait until an erasure is done; returns its record."""
    async with asyncio.timeout(30):
        while True:
            async with it.hub.store.read() as c:
                row = await erasures.get(c, id_)
            assert row is not None
            if row["state"] == "done":
                return dict(row)
            await asyncio.sleep(0.02)


async def ended(it: Running, id_: str) -> dict[str, Any]:
    """Wait until an erasure is done, and every vendor has forgotten; returns its record."""
    async with asyncio.timeout(30):
        while True:
            row = await until_done(it, id_)
            async with it.hub.store.read() as c:
                busy = await c.first("select 1 as one from work where kind in ('erase', 'forget')")
            if busy is None:
                return row
            await asyncio.sleep(0.02)
