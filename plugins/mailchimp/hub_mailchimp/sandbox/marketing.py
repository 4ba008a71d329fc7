"""A stand-in for Mailchimp Marketing: audiences, campaigns, reports and shops, over the real paths.

It knows every account that calls by an API key with its name as user, those of `account()`, and those that are authorised
in the browser. What people do is done by its methods, or by `POST /_sandbox/…` with the same names and arguments.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from aiohttp import web

from hub.clock import Clock
from hub.testing.oauth import OAuthServer
from hub.testing.sandbox import Sandbox
from hub_mailchimp.sandbox import hooks
from hub_mailchimp.sandbox.mailings import Mailings
from hub_mailchimp.sandbox.problems import Handle, Refused, moment, problem, required
from hub_mailchimp.sandbox.shops import Shops
from hub_mailchimp.sandbox.state import Account, List, Row, hashed, iso, member, page

API = "/3.0"
DATA_CENTRE = "us0"
DEFAULT_LIST = "a6b5da1054"
MOST_AT_ONCE = 10
_LEFT = ("unsubscribed", "cleaned")


class MailchimpSandbox(Sandbox):
    """Mailchimp Marketing over real HTTP.

    `signs` says whether new webhooks are signed. Of what is told next, `lose` calls are dropped, `double` sent twice, and
    `reorder` holds back that many and sends them last to first. `event_lag_ms` is how late events appear in lists.
    """

    connector = "mailchimp"

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.accounts: dict[str, Account] = {}
        self.oauth = OAuthServer(
            clock,
            expires_in_s=None,
            authorise_path="/oauth2/authorize",
            token_path="/oauth2/token",  # noqa: S106
        )
        self.signs = True
        self.lose = self.double = self.reorder = 0
        self.event_lag_ms = 0
        self._held: list[tuple[str, bytes, dict[str, str]]] = []
        self._at_once = 0
        self.mailings = Mailings(self)
        self.shops = Shops(self)
        self.account("main")

    def account(self, name: str) -> Account:
        """An account; a new one has one audience."""
        if name not in self.accounts:
            made = self.accounts[name] = Account(name)
            made.lists[DEFAULT_LIST] = List(DEFAULT_LIST, "News")
            made.lists[DEFAULT_LIST].merge_fields += [
                {"merge_id": 1, "tag": "FNAME", "name": "First name", "type": "text", "required": False},
                {"merge_id": 2, "tag": "LNAME", "name": "Last name", "type": "text", "required": False},
            ]
        return self.accounts[name]

    def throttled(self) -> web.Response:
        return problem(429, "Too Many Requests", "You have exceeded the limit of 10 simultaneous connections.")

    # -- routes --------------------------------------------------------------------------------------------------------

    def routes(self) -> Iterable[web.RouteDef]:
        list_, one = f"{API}/lists/{{list}}", f"{API}/lists/{{list}}/members/{{member}}"
        journey = f"{API}/customer-journeys/journeys/{{journey}}/steps/{{step}}/actions/trigger"
        known: list[tuple[str, str, Handle]] = [
            ("GET", f"{API}/", self._root),
            ("GET", f"{API}/ping", self._ping),
            ("GET", f"{API}/lists", self._lists),
            ("POST", list_, self._add_members),
            ("GET", f"{list_}/members", self._members),
            ("GET", one, self._member),
            ("PUT", one, self._put_member),
            ("PATCH", one, self._patch_member),
            ("DELETE", one, self._archive),
            ("POST", f"{one}/tags", self._tag),
            ("POST", f"{one}/events", self._add_event),
            ("GET", f"{one}/events", self._events),
            ("GET", f"{list_}/segments", self._segments),
            ("GET", f"{list_}/tag-search", self._tags),
            ("GET", f"{list_}/merge-fields", self._merge_fields),
            ("GET", f"{list_}/webhooks", self._webhooks),
            ("POST", f"{list_}/webhooks", self._add_webhook),
            ("DELETE", f"{list_}/webhooks/{{hook}}", self._delete_webhook),
            ("POST", journey, self._start_journey),
            ("GET", f"{API}/templates", self._templates),
            *self.mailings.routes(API),
            *self.shops.routes(API),
        ]
        routes = [web.route(method, path, self._authorised(handle)) for method, path, handle in known]
        by_hand: list[Callable[..., Awaitable[Row]]] = [
            self.subscribe,
            self.unsubscribe,
            self.change,
            self.clean,
            self.change_email,
            self.act,
        ]
        routes += [web.post(f"/_sandbox/{getattr(done, '__name__', '')}", _by_hand(done)) for done in by_hand]
        # Tokens are given back nowhere: Mailchimp has no address for it.
        oauth = [
            route for route in self.oauth.routes() if isinstance(route, web.RouteDef) and "revoke" not in route.path
        ]
        return [*routes, *oauth, web.get("/oauth2/metadata", self._metadata)]

    def _authorised(self, handle: Handle) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def answer(request: web.Request) -> web.Response:
            self._at_once += 1
            try:
                if self._at_once > MOST_AT_ONCE:
                    return self.throttled()
                return await handle(request, self._whose(request))
            except Refused as refused:
                return refused.answer
            finally:
                self._at_once -= 1

        return answer

    def _whose(self, request: web.Request) -> Account:
        """The account of a key (any user name, or the account's) or a token."""
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        user, key = "", given
        if scheme == "Basic":
            user, _, key = b64decode(given).decode().partition(":")
        key = key.removesuffix(f"-{DATA_CENTRE}")
        for name in {user, *self.accounts} - {""}:
            if key in (self.secret(name, "api_key"), self.secret(name, "access_token")):
                return self.account(name)
        if scheme == "Bearer" and (authorised := self.oauth.account_of(key)) is not None:
            return self.account(authorised)
        raise Refused(
            401, "API Key Invalid", "Your API key may be invalid, or you've attempted to access the wrong datacenter."
        )

    async def _metadata(self, request: web.Request) -> web.Response:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        generated = (name for name in self.accounts if token == self.secret(name, "access_token"))
        account = next(generated, None) or self.oauth.account_of(token) if scheme == "OAuth" else None
        if account is None:
            return web.json_response({"error": "invalid_token"})
        endpoint = f"https://{DATA_CENTRE}.api.mailchimp.com"
        return web.json_response(
            {
                "dc": DATA_CENTRE,
                "user_id": account,
                "accountname": f"{account} Ltd",
                "api_endpoint": endpoint,
                "role": "owner",
            }
        )

    async def _root(self, request: web.Request, account: Account) -> web.Response:
        named = {"account_id": account.name, "account_name": f"{account.name} Ltd", "account_timezone": "Europe/Rome"}
        return web.json_response({**named, "role": "owner", "pricing_plan_type": "monthly"})

    async def _ping(self, request: web.Request, account: Account) -> web.Response:
        return web.json_response({"health_status": "Everything's Chimpy!"})

    # -- members -------------------------------------------------------------------------------------------------------

    def _list(self, request: web.Request, account: Account) -> List:
        found = account.lists.get(request.match_info["list"])
        if found is None:
            raise Refused(404, "Resource Not Found", "The requested resource could not be found.")
        return found

    def _row(self, request: web.Request, list_: List) -> Row:
        found = list_.members.get(request.match_info["member"])
        if found is None:
            raise Refused(404, "Resource Not Found", "The requested resource could not be found.")
        return found

    async def _lists(self, request: web.Request, account: Account) -> web.Response:
        email = request.query.get("email")
        rows = [
            {"id": one.id, "name": one.name, "_links": []}
            for one in account.lists.values()
            if not email or list_has(one, email)
        ]
        return web.json_response(page("lists", rows, request.query))

    async def _members(self, request: web.Request, account: Account) -> web.Response:
        query, list_ = request.query, self._list(request, account)
        if "fields" in query and "exclude_fields" in query:
            raise Refused(400, "Invalid Resource", "fields and exclude_fields exclude each other", "fields")
        if "unsubscribed_since" in query and query.get("status") != "unsubscribed":
            raise Refused(400, "Invalid Resource", "unsubscribed_since is for unsubscribed members", "status")
        since, before = moment(query, "since_last_changed"), moment(query, "before_last_changed")
        rows = [
            row
            for row in list_.members.values()
            # Archived ones are shown only to who asks for them.
            if row["status"] == query.get("status", row["status"] if row["status"] != "archived" else "")
            and (not since or row["last_changed"] > since)
            and (not before or row["last_changed"] <= before)
        ]
        rows.sort(key=lambda row: str(row["last_changed"]))
        return web.json_response(page("members", rows, query, list_id=list_.id))

    async def _member(self, request: web.Request, account: Account) -> web.Response:
        return web.json_response(self._row(request, self._list(request, account)))

    async def _put_member(self, request: web.Request, account: Account) -> web.Response:
        body, list_ = await request.json(), self._list(request, account)
        check_fields(body)
        row = list_.members.get(request.match_info["member"])
        if row is None or row["status"] == "archived":
            required(body, "email_address", "status_if_new")
            check_address(body["email_address"])
            if row is not None and row.get("left") and body["status_if_new"] == "subscribed":
                raise Refused(400, "Member In Compliance State", f"{body['email_address']} is in a compliance state")
            row = self._new(list_, body["email_address"], body["status_if_new"], body.get("merge_fields") or {})
            kind = "subscribe"
        else:
            if row["status"] in _LEFT and body.get("status") == "subscribed":
                raise Refused(400, "Member In Compliance State", f"{row['email_address']} is in a compliance state")
            self._change(row, body.get("merge_fields") or {}, body.get("status"))
            kind = "profile"
        self.record("upsert_member", account.name, list_id=list_.id, **body)
        self._tell(list_, kind, self._data(list_, row), source="api")
        return web.json_response(row)

    async def _patch_member(self, request: web.Request, account: Account) -> web.Response:
        body, list_ = await request.json(), self._list(request, account)
        row = self._row(request, list_)
        check_fields(body)
        if row["status"] == "archived":
            raise Refused(404, "Resource Not Found", "The requested resource could not be found.")
        if row["status"] in _LEFT and body.get("status") == "subscribed":
            raise Refused(400, "Member In Compliance State", f"{row['email_address']} is in a compliance state")
        self._change(row, body.get("merge_fields") or {}, body.get("status"))
        self.record("update_member", account.name, list_id=list_.id, email=row["email_address"], **body)
        kind = "unsubscribe" if body.get("status") == "unsubscribed" else "profile"
        self._tell(list_, kind, self._data(list_, row), source="api")
        return web.json_response(row)

    async def _archive(self, request: web.Request, account: Account) -> web.Response:
        list_ = self._list(request, account)
        row = self._row(request, list_)
        if row["status"] == "archived":
            raise Refused(405, "Method Not Allowed", "The requested method and resource are not compatible.")
        row.update(left=row["status"] in _LEFT, status="archived", last_changed=iso(self.clock.now_ms()))
        self.record("archive_member", account.name, list_id=list_.id, email=row["email_address"])
        return web.Response(status=204)

    async def _add_members(self, request: web.Request, account: Account) -> web.Response:
        body, list_ = await request.json(), self._list(request, account)
        required(body, "members")
        if len(body["members"]) > 500:
            raise Refused(400, "Invalid Resource", "You may only add up to 500 members at a time.", "members")
        new: list[Row] = []
        errors: list[Row] = []
        for one in body["members"]:
            email = str(one.get("email_address", ""))
            known = list_.members.get(hashed(email))
            wrong = "" if "@" in email and one.get("status") else "ERROR_GENERIC"
            if known is not None and known["status"] != "archived" and not body.get("update_existing"):
                wrong = "ERROR_CONTACT_EXISTS"
            if wrong:
                errors.append({"email_address": email, "error": f"{email} was not added", "error_code": wrong})
                continue
            new.append(self._new(list_, email, one["status"], one.get("merge_fields") or {}))
        self.record("add_members", account.name, list_id=list_.id, members=body["members"])
        counts = {"total_created": len(new), "total_updated": 0, "error_count": len(errors)}
        return web.json_response({"new_members": new, "updated_members": [], "errors": errors, **counts})

    def _new(self, list_: List, email: str, status: str, merge_fields: Row) -> Row:
        row = list_.members[hashed(email)] = member(list_, email, status, self.clock.now_ms(), merge_fields)
        return row

    def _change(self, row: Row, merge_fields: Row, status: str | None) -> None:
        row["merge_fields"] |= merge_fields
        row["status"] = status or row["status"]
        row["last_changed"] = iso(self.clock.now_ms())

    async def _tag(self, request: web.Request, account: Account) -> web.Response:
        body, list_ = await request.json(), self._list(request, account)
        row = self._row(request, list_)
        required(body, "tags")
        for tag in body["tags"]:
            required(tag, "name", "status")
            known = [known for known in row["tags"] if known["name"] != tag["name"]]
            if tag["status"] == "active":
                known.append({"id": list_.segment(tag["name"])["id"], "name": tag["name"]})
            row.update(tags=known, tags_count=len(known))
        self.record("tag_member", account.name, list_id=list_.id, email=row["email_address"], tags=body["tags"])
        return web.Response(status=204)

    async def _add_event(self, request: web.Request, account: Account) -> web.Response:
        body, list_ = await request.json(), self._list(request, account)
        row = self._row(request, list_)
        required(body, "name")
        if not 2 <= len(body["name"]) <= 30 or not all(isinstance(v, str) for v in body.get("properties", {}).values()):
            raise Refused(400, "Invalid Resource", "The resource submitted could not be validated.", "name")
        event = {"occurred_at": iso(self.clock.now_ms()), "properties": {}, **body}
        list_.events.setdefault(row["id"], []).append({**event, "at_ms": self.clock.now_ms()})
        self.record("add_event", account.name, list_id=list_.id, email=row["email_address"], **body)
        return web.Response(status=204)

    async def _events(self, request: web.Request, account: Account) -> web.Response:
        list_ = self._list(request, account)
        seen = self.clock.now_ms() - self.event_lag_ms
        kept = list_.events.get(self._row(request, list_)["id"], ())
        names = ("occurred_at", "name", "properties")
        rows = [{name: event[name] for name in names} for event in reversed(kept) if event["at_ms"] <= seen]
        return web.json_response(page("events", rows, request.query))

    # -- what belongs to an audience -----------------------------------------------------------------------------------

    async def _segments(self, request: web.Request, account: Account) -> web.Response:
        return web.json_response(page("segments", self._list(request, account).segments, request.query))

    async def _tags(self, request: web.Request, account: Account) -> web.Response:
        prefix = request.query.get("name", "").lower()
        tags = [s for s in self._list(request, account).segments if s["type"] == "static"]
        rows = [{"id": s["id"], "name": s["name"]} for s in tags if s["name"].lower().startswith(prefix)]
        return web.json_response({"tags": rows, "total_items": len(rows)})

    async def _merge_fields(self, request: web.Request, account: Account) -> web.Response:
        return web.json_response(page("merge_fields", self._list(request, account).merge_fields, request.query))

    async def _templates(self, request: web.Request, account: Account) -> web.Response:
        return web.json_response(page("templates", account.templates, request.query))

    async def _start_journey(self, request: web.Request, account: Account) -> web.Response:
        body = await request.json()
        required(body, "email_address")
        step = (int(request.match_info["journey"]), int(request.match_info["step"]))
        if step not in account.journeys:
            raise Refused(404, "Resource Not Found", "The requested resource could not be found.")
        if not any(list_has(one, body["email_address"]) for one in account.lists.values()):
            raise Refused(400, "Bad Request", f"{body['email_address']} is not in the audience")
        self.record("start_journey", account.name, step=list(step), email=body["email_address"])
        return web.Response(status=204)

    async def _webhooks(self, request: web.Request, account: Account) -> web.Response:
        list_ = self._list(request, account)
        rows = [hooks.shown(hook) for hook in list_.webhooks.values()]
        return web.json_response({"webhooks": rows, "list_id": list_.id, "total_items": len(rows)})

    async def _add_webhook(self, request: web.Request, account: Account) -> web.Response:
        body, list_ = await request.json(), self._list(request, account)
        required(body, "url", "events", "sources")
        if any(hook["url"] == body["url"] for hook in list_.webhooks.values()):
            raise Refused(400, "Invalid Resource", "Sorry, you can't set up multiple WebHooks for one URL", "url")
        if not await hooks.is_answered(body["url"]):
            raise Refused(400, "Invalid Resource", "We couldn't validate the URL", "url")
        made = hooks.made(list_, body, signs=self.signs)
        self.record("add_webhook", account.name, list_id=list_.id, url=body["url"])
        return web.json_response(made)

    async def _delete_webhook(self, request: web.Request, account: Account) -> web.Response:
        list_ = self._list(request, account)
        if list_.webhooks.pop(request.match_info["hook"], None) is None:
            raise Refused(404, "Resource Not Found", "The requested resource could not be found.")
        return web.Response(status=204)

    # -- what people do ------------------------------------------------------------------------------------------------

    async def subscribe(
        self, email: str, account: str = "main", list_id: str = DEFAULT_LIST, **merge_fields: str
    ) -> Row:
        """Somebody joins an audience."""
        list_ = self.account(account).lists[list_id]
        row = self._new(list_, email, "subscribed", merge_fields)
        self._tell(list_, "subscribe", self._data(list_, row))
        return row

    async def unsubscribe(
        self, email: str, account: str = "main", list_id: str = DEFAULT_LIST, reason: str = "manual"
    ) -> Row:
        """Somebody leaves an audience."""
        list_ = self.account(account).lists[list_id]
        row = list_.members[hashed(email)]
        self._change(row, {}, "unsubscribed")
        self._tell(list_, "unsubscribe", {"action": "unsub", "reason": reason, **self._data(list_, row)})
        return row

    async def change(self, email: str, account: str = "main", list_id: str = DEFAULT_LIST, **merge_fields: str) -> Row:
        """A member's profile is changed."""
        list_ = self.account(account).lists[list_id]
        row = list_.members[hashed(email)]
        self._change(row, merge_fields, None)
        self._tell(list_, "profile", self._data(list_, row))
        return row

    async def clean(self, email: str, account: str = "main", list_id: str = DEFAULT_LIST, reason: str = "hard") -> Row:
        """An address is taken out of use."""
        list_ = self.account(account).lists[list_id]
        row = list_.members[hashed(email)]
        self._change(row, {}, "cleaned")
        self._tell(list_, "cleaned", {"list_id": list_id, "campaign_id": "", "reason": reason, "email": email})
        return row

    async def change_email(self, email: str, new_email: str, account: str = "main", list_id: str = DEFAULT_LIST) -> Row:
        """A member has a new address."""
        list_ = self.account(account).lists[list_id]
        row = list_.members.pop(hashed(email))
        row.update(id=hashed(new_email), email_address=new_email)
        list_.members[row["id"]] = row
        self._change(row, {}, None)
        data = {"list_id": list_id, "new_id": row["id"][:10], "new_email": new_email, "old_email": email}
        self._tell(list_, "upemail", data)
        self._tell(list_, "profile", self._data(list_, row))
        return row

    async def act(self, campaign_id: str, email: str, action: str, account: str = "main", **more: Any) -> Row:
        """Somebody opens, clicks or bounces: `type` of a bounce, `url` of a click, `ip`, `at_ms`."""
        of = self.account(account)
        event = {"action": action, "timestamp": iso(more.pop("at_ms", self.clock.now_ms())), "ip": "192.0.2.7", **more}
        of.activity.setdefault(campaign_id, {}).setdefault(hashed(email), []).append(event)
        for one in of.sent_to[campaign_id]:
            if one["email_id"] == hashed(email):
                one["open_count"] += action == "open"
                one["status"] = more.get("type", one["status"]) if action == "bounce" else one["status"]
        return event

    def send(self, account: str, campaign_id: str) -> None:
        """A campaign is sent to its recipients."""
        campaign = self.account(account).campaigns[campaign_id]
        data = self.mailings.send(self.account(account), campaign)
        self._tell(self.account(account).lists[data["list_id"]], "campaign", data)

    def draft(self, account: str = "main", list_id: str = DEFAULT_LIST, subject: str = "November news") -> str:
        """A campaign that somebody wrote at Mailchimp; its id."""
        settings = {"title": subject, "subject_line": subject}
        row = self.mailings.new(self.account(account), {"settings": settings, "recipients": {"list_id": list_id}})
        row["content"] = {"html": "<p>Hello</p>"}
        return str(row["id"])

    # -- what is told --------------------------------------------------------------------------------------------------

    def _data(self, list_: List, row: Row) -> Row:
        merges = {"EMAIL": row["email_address"], **row["merge_fields"]}
        named = {"id": row["unique_email_id"], "list_id": list_.id, "email": row["email_address"], "email_type": "html"}
        return {**named, "ip_opt": "192.0.2.10", "ip_signup": "192.0.2.10", "web_id": "3375995", "merges": merges}

    def _tell(self, list_: List, kind: str, data: Row, source: str = "user") -> None:
        body = hooks.body_of(kind, data, self.clock.now_ms())
        for hook in list_.webhooks.values():
            if hook["events"].get(kind) and hook["sources"].get(source):
                self._call(hook["url"], body, hooks.headers_of(body, hook["secret"], self.clock.now_ms()))

    def _call(self, url: str, body: bytes, headers: dict[str, str]) -> None:
        if self.lose > 0:
            self.lose -= 1
            return
        if self.reorder > len(self._held):
            self._held.append((url, body, headers))
            if len(self._held) < self.reorder:
                return
            held, self._held, self.reorder = self._held[::-1], [], 0
            self.send_soon(self._in_turn(held))
            return
        twice = self.double > 0
        self.double -= twice
        self.send_soon(self._in_turn([(url, body, headers)] * (1 + twice)))

    async def _in_turn(self, calls: list[tuple[str, bytes, dict[str, str]]]) -> None:
        """Send calls one after another, each again when it was not taken."""
        for url, body, headers in calls:
            for _ in range(1 + hooks.REPEATS):
                if 200 <= await self.post(url, body, headers) < 300:
                    break


def list_has(list_: List, email: str) -> bool:
    """Whether an address is in an audience."""
    row = list_.members.get(hashed(email))
    return row is not None and row["status"] != "archived"


def check_address(email: str) -> None:
    """Refuse what is no address."""
    if email.count("@") != 1 or email.endswith("@"):
        raise Refused(
            400, "Invalid Resource", f"{email} looks fake or invalid, please enter a real email address.", "email"
        )


def check_fields(body: Row) -> None:
    """Refuse merge fields of the wrong kinds."""
    for tag, value in (body.get("merge_fields") or {}).items():
        if isinstance(value, bool) or value is None:
            raise Refused(
                400,
                "Invalid Resource",
                "Data did not match any of the schemas described in anyOf.",
                f"merge_fields.{tag}",
            )


def _by_hand(done: Callable[..., Awaitable[Row]]) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(request: web.Request) -> web.Response:
        try:
            return web.json_response(await done(**json.loads(await request.text())))
        except (TypeError, KeyError, ValueError) as error:
            return web.json_response({"error": f"{type(error).__name__}: {error}"}, status=400)

    return answer
