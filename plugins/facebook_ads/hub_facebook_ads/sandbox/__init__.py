"""A small Meta: a Graph API over real HTTP, and signed calls for leads.

What it signs and checks it computes by itself, without the connector's code.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

import aiohttp
from aiohttp import web

from hub.clock import Clock
from hub.testing.sandbox import Sandbox
from hub_facebook_ads.sandbox.answers import Fields, GraphError, invalid, parameters
from hub_facebook_ads.sandbox.business import APP_ID, Business, opened
from hub_facebook_ads.sandbox.edges import Graph

__all__ = ["ALL_SCOPES", "APP_ID", "FacebookSandbox"]

ALL_SCOPES = (
    "ads_management",
    "ads_read",
    "business_management",
    "leads_retrieval",
    "pages_show_list",
    "pages_read_engagement",
    "pages_manage_metadata",
    "pages_manage_ads",
)
_OF_DELIVERY = {"address", "page", "ad_account"}


class FacebookSandbox(Sandbox):
    """Meta's stand-in.

    A token belongs to a business: an ad account with a Page. The Page of ad account `act_111` is 111 unless `business` is
    told otherwise. `lead` lets somebody fill in a form; `deliver` sends leads again, several in one call.

    More faults: `usage` (percent, told in the headers of each answer), `wait_minutes` (told with a throttling),
    `version_ends` (each answer warns that the version nears its end), `web_page_next` (that many answers are an outage's
    web page), `failure_next` (that many answers are 200 with `success: false`), `error_codes` (code and subcode of the next
    answers, None for one that is good), `proof_required`.
    """

    connector = "facebook_ads"

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.businesses: list[Business] = []
        self.asked: list[tuple[str, str, str | None, Fields]] = []
        """Every call that was authorised: method, what the node is, edge, parameters."""
        self.callbacks: dict[str, Fields] = {}
        """Subscriptions of the app, by object."""
        self.token: Fields = {}
        """What `debug_token` says otherwise than of a system user's token that never ends and lacks nothing."""
        self.usage = 0
        self.wait_minutes = 1
        self.version_ends = False
        self.web_page_next = 0
        self.failure_next = 0
        self.error_codes: list[tuple[int, int] | None] = []
        self.proof_required = True

    def routes(self) -> Iterable[web.RouteDef]:
        return [
            # Meta's own library ends the address of a node with a slash.
            web.route("*", r"/{version:v\d+\.\d+}/{node}{end:/?}", self._graph),
            web.route("*", r"/{version:v\d+\.\d+}/{node}/{edge}", self._graph),
            web.post("/_sandbox/business", self._business_by_hand),
            web.post("/_sandbox/lead", self._lead_by_hand),
        ]

    def business(self, ad_account: str | None = None, page: str | None = None) -> Business:
        """The business with this ad account or this Page, opened if need be."""
        for known in self.businesses:
            if ad_account == known.ad_account["id"] or (page is not None and page == known.page["id"]):
                return known
        number = (ad_account or f"act_{page}").removeprefix("act_")
        first_id = 23_850_000_000_000 + len(self.businesses) * 1_000_000
        made = opened(f"act_{number}", page or number, page or ad_account or f"act_{number}", first_id)
        self.businesses.append(made)
        return made

    # -- what happens on a Page ----------------------------------------------------------------------------------------

    async def lead(self, address: str | None, page: str, **fields: Any) -> int:
        """Somebody fills in a form of the Page; returns what the webhook was answered, 0 when there was none to send."""
        made = self.business(page=page).lead(self.clock.now_ms() // 1000, fields)
        return await self.deliver(address, page, [made["id"]])

    async def deliver(self, address: str | None, page: str, leads: Sequence[str], *, entries: int = 1) -> int:
        """Send the webhook of some leads in one call, with so many entries; also a second time, and in any order."""
        of = self.business(page=page)
        changes = [_change(page, of.leads[lead]) for lead in leads]
        parts = [changes[at::entries] for at in range(entries)]
        now_s = self.clock.now_ms() // 1000
        body = {"object": "page", "entry": [{"id": page, "time": now_s, "changes": part} for part in parts if part]}
        status = 0
        for target in [address] if address else self._subscribed(of):
            status = await self._send(target, of, json.dumps(body, separators=(",", ":")))
        return status

    async def _send(self, address: str, of: Business, text: str) -> int:
        # Meta escapes what is not ASCII, and the slash, and signs that.
        raw = text.replace("/", "\\/").encode()
        # A connection with a Page is found by it, so that its secrets are derived from it.
        secret = self.secret(of.page["id"], "app_secret").encode()
        signature = hmac.new(secret, raw, hashlib.sha256).hexdigest()
        old = hmac.new(secret, raw, hashlib.sha1).hexdigest()
        headers = {
            "Content-Type": "application/json",
            "X-Hub-Signature": f"sha1={old}",
            "X-Hub-Signature-256": f"sha256={signature}",
        }
        return await self.post(address, raw, headers)

    def _subscribed(self, of: Business) -> list[str]:
        callback = self.callbacks.get("page", {})
        wanted = "leadgen" in callback.get("fields", ()) and "leadgen" in of.subscribed.get(APP_ID, ())
        return [callback["callback_url"]] if wanted else []

    async def greet(self, address: str, verify_token: str) -> bool:
        """Whether an address proves itself as Meta asks for it: it knows the token and gives back the bare challenge."""
        challenge = str(secrets.randbelow(10**9))
        asked = {"hub.mode": "subscribe", "hub.challenge": challenge, "hub.verify_token": verify_token}
        url = f"{address}{'&' if '?' in address else '?'}{urlencode(asked)}"
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            return answer.status == 200 and await answer.text() == challenge

    # -- the Graph API -------------------------------------------------------------------------------------------------

    async def _graph(self, request: web.Request) -> web.Response:
        try:
            if self.error_codes and (told := self.error_codes.pop(0)):
                code, subcode = told
                raise GraphError(code, "Told to fail", subcode=subcode, status=500 if code in {1, 2} else 400)
            if self.web_page_next > 0:
                self.web_page_next -= 1
                return web.Response(text="<!DOCTYPE html><title>Sorry</title>", content_type="text/html", status=500)
            if self.failure_next > 0:
                self.failure_next -= 1
                return web.json_response({"success": False}, headers=self._headers())
            return web.json_response(await self._answer(request), headers=self._headers())
        except GraphError as error:
            return error.response(self._headers())

    async def _answer(self, request: web.Request) -> Fields:
        node, edge = request.match_info["node"], request.match_info.get("edge")
        asked = await parameters(request)
        token = request.headers.get("Authorization", "").removeprefix("Bearer ") or str(asked.pop("access_token", ""))
        asked.pop("access_token", None)
        if node == APP_ID or node == "debug_token":
            return await self._app(request.method, node, edge, asked, token)
        of, account = self._owner(token, node)
        self._check_proof(account, token, str(asked.pop("appsecret_proof", "")))
        graph = Graph(of, asked, self.clock.now_ms(), str(request.url), self.record)
        self.asked.append((request.method, graph.kind(node), edge, dict(asked)))
        return graph.answer(request.method, node, edge)

    def _owner(self, token: str, node: str) -> tuple[Business, str]:
        """Whose token it is, and the account of the connection that it was made for."""
        if not any(node in {known.ad_account["id"], known.page["id"]} for known in self.businesses):
            accounts = [node, node.removeprefix("act_")]
            if any(hmac.compare_digest(token, self.secret(account, "access_token")) for account in accounts):
                self.business(*((node, None) if node.startswith("act_") else (None, node)))
        for known in self.businesses:
            for account in _accounts(known):
                if hmac.compare_digest(token, self.secret(account, "access_token")):
                    return known, account
        raise GraphError(190, "Invalid OAuth access token - Cannot parse access token", status=401)

    def _check_proof(self, account: str, token: str, proof: str) -> None:
        if not proof:
            if self.proof_required:
                raise GraphError(100, "API calls from the server require an appsecret_proof argument")
            return
        expected = hmac.new(self.secret(account, "app_secret").encode(), token.encode(), hashlib.sha256)
        if not hmac.compare_digest(proof, expected.hexdigest()):
            raise GraphError(100, "Invalid appsecret_proof provided in the API argument")

    async def _app(self, method: str, node: str, edge: str | None, asked: Fields, token: str) -> Fields:
        """What the app does with its own token: `{app id}|{app secret}`."""
        accounts = [account for known in self.businesses for account in _accounts(known)]
        known = {
            f"{APP_ID}|{secret}": secret for secret in (self.secret(account, "app_secret") for account in accounts)
        }
        if token not in known:
            raise GraphError(190, "Invalid OAuth access token signature", status=401)
        proof = str(asked.pop("appsecret_proof", ""))
        expected = hmac.new(known[token].encode(), token.encode(), hashlib.sha256).hexdigest()
        if proof and not hmac.compare_digest(proof, expected):
            raise GraphError(100, "Invalid appsecret_proof provided in the API argument")
        if node == "debug_token":
            return self._debugged(method, accounts, str(asked.get("input_token") or ""))
        if edge != "subscriptions":
            raise GraphError(100, "Unsupported request: the app has no such edge")
        self.asked.append((method, "app", edge, dict(asked)))
        if method == "GET":
            found = [{"object": name, "active": True, **one} for name, one in self.callbacks.items()]
            return {"data": [{**one, "fields": [{"name": name} for name in one["fields"]]} for one in found]}
        if method == "DELETE":
            self._call_no_more(asked)
            return {"success": True}
        for name in ("object", "callback_url", "fields", "verify_token"):
            if not asked.get(name):
                raise invalid(f"The parameter {name} is required.", name)
        if not await self.greet(str(asked["callback_url"]), str(asked["verify_token"])):
            raise GraphError(2200, "Callback verification failed")
        callback = {"callback_url": str(asked["callback_url"]), "fields": _names(asked["fields"])}
        self.callbacks[str(asked["object"])] = callback
        return {"success": True}

    def _call_no_more(self, asked: Fields) -> None:
        """Without `fields` all of an object's are taken back, without an object everything."""
        for name in [str(asked["object"])] if asked.get("object") else list(self.callbacks):
            callback = self.callbacks.get(name)
            gone = _names(asked["fields"]) if asked.get("fields") else callback["fields"] if callback else []
            if callback is not None:
                callback["fields"] = [field for field in callback["fields"] if field not in gone]
                if not callback["fields"]:
                    del self.callbacks[name]

    def _debugged(self, method: str, accounts: Sequence[str], token: str) -> Fields:
        if method != "GET" or not token:
            raise invalid("The parameter input_token is required.", "input_token")
        if not any(hmac.compare_digest(token, self.secret(account, "access_token")) for account in accounts):
            raise GraphError(100, "The App_id in the input_token did not match the Viewing App")
        usual = {"app_id": APP_ID, "type": "SYSTEM_USER", "is_valid": True, "expires_at": 0, "scopes": list(ALL_SCOPES)}
        return {"data": {**usual, **self.token}}

    def _headers(self) -> Mapping[str, str]:
        found = {"facebook-api-version": "v26.0"}
        if self.usage:
            found["X-Business-Use-Case-Usage"] = self._count(self.usage, 0)
        if self.version_ends:
            found["x-ad-api-version-warning"] = "The call has been made to an outdated version"
        return found

    def _count(self, percent: int, minutes: int) -> str:
        count = {
            "type": "custom_audience",
            "call_count": percent,
            "total_cputime": percent // 2,
            "total_time": percent // 2,
            "estimated_time_to_regain_access": minutes,
            "ads_api_access_tier": "standard_access",
        }
        return json.dumps({"1900000000000001": [count]})

    def throttled(self) -> web.Response:
        error = GraphError(80003, "There have been too many calls to this ad-account. Wait a bit and try again.")
        return error.response({"X-Business-Use-Case-Usage": self._count(100, self.wait_minutes)})

    # -- by hand -------------------------------------------------------------------------------------------------------

    async def _business_by_hand(self, request: web.Request) -> web.Response:
        fields = await request.json()
        made = self.business(fields.get("ad_account"), fields.get("page"))
        for name in fields.get("audiences") or ():
            made.audience(name)
        shown = {"audiences": made.audiences, "campaigns": made.campaigns, "pixels": made.pixels, "forms": made.forms}
        return web.json_response({"ad_account": made.ad_account, "page": made.page, **shown})

    async def _lead_by_hand(self, request: web.Request) -> web.Response:
        fields = await request.json()
        if not fields.get("page"):
            return web.json_response({"error": 'say which Page: {"page": "111"}'}, status=400)
        lead = {name: value for name, value in fields.items() if name not in _OF_DELIVERY}
        status = await self.lead(fields.get("address"), str(fields["page"]), **lead)
        return web.json_response({"status": status})


def _names(fields: Any) -> list[str]:
    return [str(one) for one in fields] if isinstance(fields, list) else str(fields).split(",")


def _accounts(of: Business) -> tuple[str, str]:
    """What connections of a business may be found by."""
    return of.page["id"], of.ad_account["id"]


def _change(page: str, lead: Fields) -> Fields:
    value = {
        "leadgen_id": lead["id"],
        "page_id": page,
        "form_id": lead["form_id"],
        **({"ad_id": lead["ad_id"], "adgroup_id": lead["ad_id"]} if "ad_id" in lead else {}),
        "created_time": lead["created_time"],
    }
    return {"field": "leadgen", "value": value}
