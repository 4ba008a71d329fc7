"""A small HubSpot: the parts of its API that the connector uses, and accounts whose people are moved by hand.

The accounts 62515 and 70001 are there from the start; others are opened by `portal` or `POST /hubspot/_sandbox/portal`.
Whatever is changed, by the API or by hand, is told to the account's address in `addresses`, signed as HubSpot signs.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from aiohttp import web

from hub import same
from hub.clock import Clock
from hub.testing.oauth import OAuthServer
from hub.testing.sandbox import Sandbox
from hub_hubspot.sandbox import crm, marketing, telling
from hub_hubspot.sandbox.portal import Fields, ListOf, Portal, Refusal, Row
from hub_hubspot.sandbox.serving import Asked

PORTALS = ("62515", "70001")
_CALLS, _CALLS_MS = 100, 10_000
_SEARCHES, _SEARCHES_MS = 5, 1_000
_SINGULAR = {"contacts": "contact", "deals": "deal", "tickets": "ticket"}


class HubspotSandbox(Sandbox):
    """HubSpot's stand-in. `portals` may be read and changed by tests, `sent` holds every delivery that left.

    `search_lag_ms` is how long a search does not see what was written. `limits` False lets an account call as it likes.
    """

    connector = "hubspot"

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.oauth = OAuthServer(
            clock,
            lists_scopes=True,
            token_path=r"/oauth/{version:v3|\d{4}-\d\d}/token",  # noqa: S106  (an address)
            revoke_path=r"/oauth/{version:\d{4}-\d\d}/token/revoke",
        )
        self.portals: dict[str, Portal] = {}
        self.addresses: dict[str, str] = {}
        self.sent: list[telling.Delivery] = []
        self.search_lag_ms = 0
        self.limits = True
        self._events = 3_181_526_000
        for known in PORTALS:
            self.portal(known)

    def portal(self, id: str) -> Portal:
        """The account of that id, opened if need be with owners, lists, a form, an e-mail and a subscription type."""
        if id not in self.portals:
            self.portals[id] = _furnished(id)
        return self.portals[id]

    def routes(self) -> Iterable[web.RouteDef]:
        served = [
            # HubSpot takes each address with a slash at its end, too.
            web.route(method, path + "{slash:/?}", partial(self._serve, handler))
            for method, path, handler in (*crm.routes(), *marketing.routes())
        ]
        by_hand: dict[str, Callable[..., Awaitable[Fields]]] = {
            "portal": self._open,
            "contact": self.contact,
            "ticket": partial(self._record, "tickets"),
            "deal": partial(self._record, "deals"),
            "delete": self.delete,
            "submission": self.submission,
            "email_event": self.email_event,
            "workflow": self.workflow,
        }
        return [
            *self.oauth.routes(),
            *served,
            *(web.post(f"/_sandbox/{name}", self._by_hand(happen)) for name, happen in by_hand.items()),
        ]

    # -- the API -------------------------------------------------------------------------------------------------------

    async def _serve(self, handler: crm.Handler, request: web.Request) -> web.Response:
        try:
            portal = self._authorised(request)
            limited = self._limit(portal, is_search=request.path.rstrip("/").endswith("/search"))
            if limited is not None:
                self.refused += 1
                return limited
            served = handler(await self._asked(portal, request))
        except Refusal as refusal:
            return web.json_response(refusal.body, status=refusal.status)
        except (KeyError, TypeError, ValueError) as error:
            body = Refusal(400, "VALIDATION_ERROR", f"Invalid input JSON: {type(error).__name__}").body
            return web.json_response(body, status=400)
        if served.body is None:
            return web.Response(status=served.status)
        left = str(max(0, _CALLS - len(portal.calls)))
        headers = {
            "X-HubSpot-RateLimit-Max": str(_CALLS),
            "X-HubSpot-RateLimit-Remaining": left,
            "X-HubSpot-RateLimit-Interval-Milliseconds": str(_CALLS_MS),
        }
        return web.json_response(
            served.body, status=served.status, headers={} if request.path.rstrip("/").endswith("/search") else headers
        )

    def _authorised(self, request: web.Request) -> Portal:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme == "Bearer":
            for account, portal in {"": self.portal(PORTALS[0]), **self.portals}.items():
                # A connection that nobody authorised in the browser has no account: it is the first one's.
                if same(token, self.secret(account, "access_token")):
                    return portal
            if (authorised := self.oauth.account_of(token)) is not None:
                return self.portal(authorised)
        raise Refusal(401, "INVALID_AUTHENTICATION", "Authentication credentials not found or no longer valid")

    def _limit(self, portal: Portal, *, is_search: bool) -> web.Response | None:
        now = self.clock.now_ms()
        taken, most, span, policy = (
            (portal.searches, _SEARCHES, _SEARCHES_MS, "SECONDLY")
            if is_search
            else (portal.calls, _CALLS, _CALLS_MS, "TEN_SECONDLY_ROLLING")
        )
        taken[:] = [at for at in taken if now - span < at <= now]
        if self.limits and len(taken) >= most:
            return _throttled(policy)
        taken.append(now)
        return None

    async def _asked(self, portal: Portal, request: web.Request) -> Asked:
        body = json.loads(await request.read() or b"null")
        return Asked(
            portal=portal,
            match=request.match_info,
            query=request.query,
            token=request.headers["Authorization"].partition(" ")[2],
            body=body if body is not None else {},
            now_ms=self.clock.now_ms(),
            search_lag_ms=self.search_lag_ms,
            record=lambda operation, **data: self.record(operation, portal.id, **data),
            created=lambda kind, row: self._tell(portal, [self._creation(portal, kind, row, "INTEGRATION")]),
            changed=lambda kind, row, changes: self._tell(
                portal, self._changes(portal, kind, row, changes, "INTEGRATION")
            ),
        )

    def throttled(self) -> web.Response:
        return _throttled("TEN_SECONDLY_ROLLING")

    # -- webhooks ------------------------------------------------------------------------------------------------------

    def event(self, portal: str, type_: str, **fields: Any) -> Fields:
        """An event as HubSpot writes it, with a number of its own unless `fields` say otherwise."""
        self._events += 1
        return telling.event(portal, type_, self._events, self.clock.now_ms(), **fields)

    async def tell(
        self,
        address: str,
        events: Sequence[Mapping[str, Any]] | Mapping[str, Any],
        *,
        portal: str,
        versions: Sequence[str] = ("v1", "v3"),
        signed: bool = True,
        reverse: bool = False,
        times: int = 1,
    ) -> int:
        """Send one call with these events, signed by the secret of this account's connection; returns the last status.

        `times` 0 loses it, 2 sends it twice; `reverse` puts the newest first; `signed` False signs by another secret.
        """
        assert not isinstance(events, Sequence) or len(events) <= telling.MOST, "more than HubSpot sends in one call"
        ordered = list(reversed(events)) if isinstance(events, Sequence) and reverse else events
        delivery = telling.Delivery(address, telling.written(ordered), tuple(versions), portal, signed)
        self.sent.append(delivery)
        status = 0
        for _ in range(times):
            status = await self._send(delivery)
        return status

    async def redeliver(self, number: int = -1) -> int:
        """Send an earlier delivery again, as HubSpot does up to ten times: `attemptNumber` rises, the rest stays."""
        before = self.sent[number]
        delivery = telling.Delivery(
            before.address, telling.again(before.body), before.versions, before.portal, before.signed
        )
        self.sent.append(delivery)
        return await self._send(delivery)

    async def _send(self, delivery: telling.Delivery) -> int:
        secret = self.secret(delivery.portal, "client_secret" if delivery.signed else "somebody else's")
        if delivery.versions == ("v1",) and delivery.signed:
            secret = self.secret(delivery.portal, "v1_client_secret")
        return await self.post(delivery.address, delivery.body, telling.headers(delivery, secret, self.clock.now_ms()))

    def _creation(self, portal: Portal, kind: str, row: Row, source: str) -> Fields:
        more = {"objectId": int(row.id), "changeFlag": "NEW", "changeSource": source}
        return self.event(portal.id, f"{_SINGULAR.get(kind, 'object')}.creation", **more)

    def _changes(
        self, portal: Portal, kind: str, row: Row, changes: Sequence[tuple[str, str]], source: str
    ) -> list[Fields]:
        return [
            self.event(
                portal.id,
                f"{_SINGULAR.get(kind, 'object')}.propertyChange",
                objectId=int(row.id),
                propertyName=name,
                propertyValue=value,
                changeSource=source,
            )
            for name, value in changes
        ]

    def _tell(self, portal: Portal, events: list[Fields]) -> None:
        address = self.addresses.get(portal.id)
        known = [event for event in events if not event["subscriptionType"].startswith("object.")]
        for start in range(0, len(known) if address else 0, telling.MOST):
            assert address, "there is somebody to tell"
            self.send_soon(self.tell(address, known[start : start + telling.MOST], portal=portal.id))

    # -- what people do ------------------------------------------------------------------------------------------------

    def _by_hand(self, happen: Callable[..., Awaitable[Fields]]) -> Callable[[web.Request], Awaitable[web.Response]]:
        """An endpoint for people: `{"portal_id": …, "address": …, any field}`; webhooks go to `address` if it is given."""

        async def handle(request: web.Request) -> web.Response:
            fields = await request.json()
            portal = self.portal(str(fields.pop("portal_id", PORTALS[0])))
            if (address := fields.pop("address", None)) is not None:
                self.addresses[portal.id] = address
            try:
                shown = await happen(portal, **fields)
            except Refusal as refusal:
                return web.json_response(refusal.body, status=refusal.status)
            await self.settle()
            return web.json_response(shown)

        return handle

    async def _open(self, portal: Portal) -> Fields:
        return {"portal_id": portal.id}

    async def contact(self, portal: Portal, **properties: str) -> Fields:
        """Somebody is put in, or the one with this `email` is changed."""
        return await self._record("contacts", portal, **properties)

    async def _record(self, kind: str, portal: Portal, **fields: str) -> Fields:
        now, named, contact = self.clock.now_ms(), fields.pop("id", None), fields.pop("contact_id", None)
        row = portal.rows[kind].get(str(named)) if named else None
        if kind == "contacts" and row is None and fields.get("email"):
            row = portal.holder("contacts", "email", fields["email"])
        if row is None:
            row = portal.make(kind, fields, now)
            self._tell(portal, [self._creation(portal, kind, row, "CRM_UI")])
        else:
            self._tell(portal, self._changes(portal, kind, row, portal.change(kind, row, fields, now), "CRM_UI"))
        if contact:
            portal.join(kind, row.id, "contacts", str(contact))
        return portal.shown(kind, row, fields)

    async def delete(self, portal: Portal, id: str, privacy: bool = False) -> Fields:
        """A contact is deleted; for privacy, HubSpot tells of it in both ways."""
        portal.find("contacts", str(id))
        del portal.rows["contacts"][str(id)]
        for one in portal.lists.values():
            one.members.pop(str(id), None)
        types = ["contact.deletion", *(["contact.privacyDeletion"] if privacy else [])]
        self._tell(portal, [self.event(portal.id, type_, objectId=int(id), changeFlag="DELETED") for type_ in types])
        return {"id": id}

    async def submission(self, portal: Portal, form: str | None = None, **values: str | list[str]) -> Fields:
        """Somebody fills in a form; without `form` it is the first."""
        form = form or portal.forms[0]["id"]
        pairs = [(n, one) for n, value in values.items() for one in (value if isinstance(value, list) else [value])]
        made = {
            "conversionId": f"c0000000-0000-4000-8000-{portal.next_id():>012}",
            "submittedAt": self.clock.now_ms(),
            "pageUrl": "https://www.example.test/demo",
            "values": [{"name": name, "value": value} for name, value in pairs],
        }
        portal.submissions.setdefault(form, []).append(made)
        return made

    async def email_event(self, portal: Portal, type: str, recipient: str, **more: Any) -> Fields:
        """Something became of an e-mail: `type` is `OPEN`, `CLICK`, `BOUNCE`, `SPAMREPORT`, …"""
        made = {
            "id": f"e0000000-0000-4000-8000-{portal.next_id():>012}",
            "created": self.clock.now_ms(),
            "type": type,
            "recipient": recipient,
            "portalId": int(portal.id),
            "appId": 113,
            "emailCampaignId": 4_126_643_121,
            **more,
        }
        portal.email_events.append(made)
        return made

    async def workflow(self, portal: Portal, **body: Any) -> Fields:
        """A workflow sends a webhook: one object, signed by version 2."""
        address = self.addresses[portal.id]
        return {"status": await self.tell(address, body, portal=portal.id, versions=["v2"])}


def _throttled(policy: str) -> web.Response:
    body = {
        "status": "error",
        "message": f"You have reached your {policy.lower()} limit.",
        "errorType": "RATE_LIMIT",
        "correlationId": "sandbox-1",
        "policyName": policy,
    }
    return web.json_response(body, status=429)


def _furnished(id: str) -> Portal:
    portal = Portal(id)
    teams = [{"id": "9", "name": "Sales", "primary": True}]
    for number, name in enumerate(("Ayşe", "Ben", "Chloé"), start=1):
        portal.owners.append(
            {
                "id": str(500 + number),
                "email": f"owner{number}@example.test",
                "type": "PERSON",
                "firstName": name,
                "lastName": "Example",
                "userId": 900 + number,
                "archived": False,
                "teams": teams if number > 1 else [],
                "createdAt": "2026-01-01T00:00:00Z",
                "updatedAt": "2026-01-01T00:00:00Z",
            }
        )
    portal.lists["31"] = ListOf("31", "Newsletter")
    portal.lists["32"] = ListOf("32", "Active customers", "DYNAMIC")
    for number, (type_, name) in enumerate(
        {"hubspot": "Demo request", "captured": "Old sign-up", "flow": "Pop-up", "blog_comment": "Comments"}.items()
    ):
        portal.forms.append({"id": f"f0000000-0000-4000-8000-{number:012}", "formType": type_, "name": name})
    portal.emails.append({"id": "4126643121", "name": "Welcome", "state": "PUBLISHED", "subject": "Welcome"})
    portal.topics.append({"id": "7104", "name": "Newsletter", "isActive": True})
    return portal


__all__ = ["HubspotSandbox", "Portal"]
