"""A stand-in for Mailchimp Transactional: takes e-mails, tells what became of them, and finds them late.

It knows the account `main` and those of `account()`. `refuse` maps an address to the reason its e-mails are rejected for.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from base64 import b64encode
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import date
from typing import Any
from urllib.parse import urlencode

import aiohttp
from aiohttp import web

from hub.clock import Clock, to_datetime
from hub.testing.sandbox import Sandbox

Row = dict[str, Any]
"""One resource, as the API shows it."""
EVENTS = ("send", "hard_bounce", "soft_bounce", "open", "click", "spam", "unsub", "reject")
REPEATS = 2
_STATUS = {"Invalid_Key": 401, "PaymentRequired": 402, "GeneralError": 500}


class Refused(Exception):
    """A call that is answered with an error."""

    def __init__(self, name: str, message: str, code: int = -2) -> None:
        super().__init__(name)
        status = _STATUS.get(name, 404 if name.startswith("Unknown_") else 400)
        body = {"status": "error", "code": code, "name": name, "message": message}
        self.answer = web.json_response(body, status=status)


Handle = Callable[[Row, str], Awaitable[Any]]


class MandrillSandbox(Sandbox):
    """Mailchimp Transactional over real HTTP.

    A sent e-mail is told as `send` at once; what follows is told by `act`. `index_lag_ms` is how late a message is found
    by the search. Of what is told next, `lose` calls are dropped and `double` sent twice.
    """

    connector = "mandrill"

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.known = {"main"}
        self.refuse: dict[str, str] = {}
        self.index_lag_ms = 30_000
        self.lose = self.double = 0
        self.messages: dict[str, dict[str, Row]] = {}
        self.refused_at: dict[str, str | None] = {}
        """When a refused address was, as the list of them tells it (UTC); None for one that is not in the list."""
        self.webhooks: dict[str, dict[int, Row]] = {}
        self.templates: dict[str, list[Row]] = {}
        self.subaccounts: dict[str, list[Row]] = {}

    def account(self, name: str) -> None:
        """Let an account exist."""
        self.known.add(name)

    def throttled(self) -> web.Response:
        body = {"status": "error", "code": -1, "name": "Too_Many_Requests", "message": "Too many requests"}
        return web.json_response(body, status=429)

    def routes(self) -> Iterable[web.RouteDef]:
        known: dict[str, Handle] = {
            "/users/info": self._info,
            "/users/ping2": self._ping,
            "/messages/send": self._send,
            "/messages/send-template": self._send_template,
            "/messages/search": self._search,
            "/rejects/list": self._rejects,
            "/webhooks/list": self._webhooks,
            "/webhooks/add": self._add_webhook,
            "/webhooks/delete": self._delete_webhook,
            "/templates/list": self._templates,
            "/subaccounts/list": self._subaccounts,
        }
        made = []
        for path, handle in known.items():
            for version in ("1.0", "1.3"):
                made += [web.post(f"/api/{version}{path}{end}", self._authorised(handle)) for end in ("", ".json")]
        return [*made, web.post("/_sandbox/act", self._act_by_hand)]

    def _authorised(self, handle: Handle) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def answer(request: web.Request) -> web.Response:
            try:
                body = await request.json()
                key = body.pop("key", None) or request.headers.get("X-MC-ApiKey", "")
                account = next((name for name in sorted(self.known) if key == self.secret(name, "api_key")), None)
                if account is None:
                    raise Refused("Invalid_Key", "Invalid API key", -1)
                return web.json_response(await handle(body, account))
            except Refused as refused:
                return refused.answer

        return answer

    async def _info(self, body: Row, account: str) -> Row:
        return {"username": f"{account}@example.test", "public_id": f"public-{account}", "reputation": 90}

    async def _ping(self, body: Row, account: str) -> Row:
        return {"PING": "PONG!"}

    # -- sending -------------------------------------------------------------------------------------------------------

    async def _send(self, body: Row, account: str) -> list[Row]:
        message = body.get("message")
        if not isinstance(message, dict):
            raise Refused("ValidationError", 'You must specify a "message" value')
        if not (message.get("html") or message.get("text")):
            raise Refused("ValidationError", "There is nothing to send")
        return [self._take(account, message, to) for to in self._recipients(message)]

    async def _send_template(self, body: Row, account: str) -> list[Row]:
        message = body.get("message")
        if not isinstance(message, dict) or "template_name" not in body or "template_content" not in body:
            raise Refused("ValidationError", 'You must specify "template_name", "template_content" and "message"')
        slug = body["template_name"]
        if not any(template["slug"] == slug for template in self.templates.get(account, ())):
            raise Refused("Unknown_Template", f'No such template "{slug}"', 5)
        return [self._take(account, message, to, slug) for to in self._recipients(message)]

    def _recipients(self, message: Row) -> list[Row]:
        if not message.get("from_email") or "@" not in message["from_email"]:
            raise Refused("ValidationError", 'You must specify a "from_email" value')
        to = message.get("to")
        if not to or any("@" not in one.get("email", "") for one in to):
            raise Refused("ValidationError", f"An email address must contain a single @: {to}")
        if any(len(tag) >= 50 or tag.startswith("_") for tag in message.get("tags") or ()):
            raise Refused("ValidationError", "Tags must be shorter than 50 characters and not begin with an underscore")
        return list(to)

    def _take(self, account: str, message: Row, to: Row, template: str | None = None) -> Row:
        email, reason = to["email"], self.refuse.get(to["email"])
        row: Row = {
            "_id": secrets.token_hex(10),
            "ts": self.clock.now_ms() // 1000,
            "state": "rejected" if reason else "sent",
            "subject": message.get("subject", ""),
            "email": email,
            "sender": message["from_email"],
            "tags": message.get("tags") or [],
            "metadata": message.get("metadata") or [],
            "template": template,
            "opens": [],
            "clicks": [],
        }
        self.messages.setdefault(account, {})[row["_id"]] = {**row, "at_ms": self.clock.now_ms()}
        told = {"email": email, "status": row["state"], "reject_reason": reason, "_id": row["_id"]}
        if reason:
            return told
        self.record("send", account, to=email, subject=row["subject"], template=template, id=row["_id"])
        self.tell(account, [{"event": "send", "_id": row["_id"], "ts": row["ts"], "msg": row}])
        return told

    async def _rejects(self, body: Row, account: str) -> list[Row]:
        rows = []
        for email, reason in self.refuse.items():
            at = self.refused_at.get(email, "2026-01-01 00:00:00")
            if at is not None and body.get("email", email) == email:
                rows.append({"email": email, "reason": reason, "created_at": at, "last_event_at": at, "expired": False})
        return rows

    async def _search(self, body: Row, account: str) -> list[Row]:
        limit = body.get("limit", 100)
        if not 100 <= limit <= 1000:
            raise Refused("ValidationError", "limit must be between 100 and 1000")
        seen = self.clock.now_ms() - self.index_lag_ms
        name, _, value = str(body.get("query", "")).removeprefix("metadata.").partition(":")
        since, until = (date.fromisoformat(body[day]) for day in ("date_from", "date_to"))
        found = [
            {**message, "opens": len(message["opens"]), "clicks": len(message["clicks"])}
            for message in reversed(self.messages.get(account, {}).values())
            if message["at_ms"] <= seen
            and since <= to_datetime(message["at_ms"]).date() <= until
            and (not name or (message["metadata"] and message["metadata"].get(name) == value))
            and message["sender"] in body.get("senders", [message["sender"]])
        ]
        return [{k: v for k, v in message.items() if k != "at_ms"} for message in found[:limit]]

    async def _templates(self, body: Row, account: str) -> list[Row]:
        return self.templates.get(account, [])

    async def _subaccounts(self, body: Row, account: str) -> list[Row]:
        return self.subaccounts.get(account, [])

    # -- webhooks ------------------------------------------------------------------------------------------------------

    async def _webhooks(self, body: Row, account: str) -> list[Row]:
        return list(self.webhooks.get(account, {}).values())

    async def _add_webhook(self, body: Row, account: str) -> Row:
        if not body.get("url") or not set(body.get("events", ())) <= set(EVENTS):
            raise Refused("ValidationError", 'You must specify a "url" and known "events"')
        if not await self._is_there(body["url"]):
            raise Refused("ValidationError", "The url does not answer a HEAD request with 200")
        kept = self.webhooks.setdefault(account, {})
        made: Row = {
            "id": 1131 + len(kept),
            "url": body["url"],
            "description": body.get("description", ""),
            "auth_key": secrets.token_urlsafe(16),
            "events": list(body.get("events", ())),
        }
        kept[made["id"]] = made
        self.record("add_webhook", account, url=body["url"])
        self.send_soon(self._post(made["url"], "[]", "test-webhook"))
        return made

    async def _is_there(self, url: str) -> bool:
        timeout = aiohttp.ClientTimeout(total=10)
        try:
            async with aiohttp.ClientSession(timeout=timeout) as session, session.head(url) as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return False

    async def _delete_webhook(self, body: Row, account: str) -> Row:
        found = self.webhooks.get(account, {}).pop(body.get("id", 0), None)
        if found is None:
            raise Refused("Unknown_Webhook", f"Unknown webhook {body.get('id')}")
        return found

    # -- what becomes of e-mails ---------------------------------------------------------------------------------------

    async def act(self, message_id: str, event: str, account: str = "main", **more: Any) -> Row:
        """Something becomes of a message: `open`, `click` with `url`, `hard_bounce`, `spam`, `unsub`; told by webhooks."""
        message = self.messages[account][message_id]
        now = self.clock.now_ms() // 1000
        states = {"hard_bounce": "bounced", "soft_bounce": "soft-bounced", "spam": "spam", "unsub": "unsub"}
        message["state"] = states.get(event, message["state"])
        if event in ("open", "click"):
            message[f"{event}s"].append({"ts": now, **({"url": more["url"]} if "url" in more else {})})
        shown = {name: value for name, value in message.items() if name != "at_ms"}
        if event.endswith("bounce"):
            shown["bounce_description"] = more.pop("bounce_description", "bad_mailbox")
        told = {"event": event, "_id": message_id, "ts": now, "msg": shown, **more}
        self.tell(account, [told])
        return told

    def tell(self, account: str, events: list[Row]) -> None:
        """Send events to the webhooks that want them."""
        for hook in self.webhooks.get(account, {}).values():
            wanted = [event for event in events if event.get("event") in hook["events"]]
            if not wanted:
                continue
            if self.lose > 0:
                self.lose -= 1
                continue
            for _ in range(1 + (self.double > 0)):
                self.send_soon(self._post(hook["url"], json.dumps(wanted), hook["auth_key"]))
            self.double = max(0, self.double - 1)

    async def _post(self, url: str, events: str, key: str) -> int:
        """One call, again when it was not taken."""
        form = {"mandrill_events": events}
        body = urlencode(form).encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded", "X-Mandrill-Signature": seal(key, url, form)}
        status = 0
        for _ in range(1 + REPEATS):
            status = await self.post(url, body, headers)
            if 200 <= status < 300:
                break
        return status

    async def _act_by_hand(self, request: web.Request) -> web.Response:
        """As `act`; with `to` in place of `message_id` it is the latest e-mail to that address."""
        try:
            asked = await request.json()
            if to := asked.pop("to", None):
                asked["message_id"] = self._latest(to, asked.get("account", "main"))
            return web.json_response(await self.act(**asked))
        except (TypeError, KeyError, ValueError) as error:
            return web.json_response({"error": f"{type(error).__name__}: {error}"}, status=400)

    def _latest(self, to: str, account: str) -> str:
        found = [id_ for id_, message in self.messages.get(account, {}).items() if message["email"] == to]
        if not found:
            raise ValueError("no e-mail left to this address")
        return found[-1]


def seal(key: str, url: str, form: Mapping[str, str]) -> str:
    """The signature of a call with these fields."""
    code = hmac.HMAC(key.encode(), url.encode(), hashlib.sha1)
    for name in sorted(form):
        code.update(name.encode())
        code.update(form[name].encode())
    return b64encode(code.digest()).decode()
