"""The campaigns and reports of the Marketing stand-in."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from aiohttp import web

from hub_mailchimp.sandbox.problems import Handle, Refused, moment, required
from hub_mailchimp.sandbox.state import Account, Row, iso, page

if TYPE_CHECKING:
    from hub_mailchimp.sandbox.marketing import MailchimpSandbox


class Mailings:
    """Campaigns from draft to report, of all accounts of a sandbox."""

    def __init__(self, sandbox: MailchimpSandbox) -> None:
        self._sandbox = sandbox

    def routes(self, api: str) -> list[tuple[str, str, Handle]]:
        """Method, path and handler of each."""
        campaign, report = f"{api}/campaigns/{{campaign}}", f"{api}/reports/{{campaign}}"
        return [
            ("GET", f"{api}/campaigns", self._campaigns),
            ("POST", f"{api}/campaigns", self._add_campaign),
            ("PUT", f"{campaign}/content", self._content),
            ("GET", f"{campaign}/send-checklist", self._checklist),
            ("POST", f"{campaign}/actions/send", self._send),
            ("GET", f"{api}/reports", self._reports),
            ("GET", f"{report}/email-activity", self._activity),
            ("GET", f"{report}/sent-to", self._sent_to),
        ]

    def _campaign(self, request: web.Request, account: Account) -> Row:
        found = account.campaigns.get(request.match_info["campaign"])
        if found is None:
            raise Refused(404, "Resource Not Found", "The requested resource could not be found.")
        return found

    async def _campaigns(self, request: web.Request, account: Account) -> web.Response:
        since = moment(request.query, "since_create_time")
        rows = [row for row in account.campaigns.values() if row["create_time"] > since]
        return web.json_response(page("campaigns", rows, request.query))

    async def _add_campaign(self, request: web.Request, account: Account) -> web.Response:
        body = await request.json()
        required(body, "type")
        list_ = account.lists.get((body.get("recipients") or {}).get("list_id", ""))
        segment = ((body.get("recipients") or {}).get("segment_opts") or {}).get("saved_segment_id")
        if list_ is None or (segment is not None and not any(s["id"] == segment for s in list_.segments)):
            raise Refused(400, "Invalid Resource", "The resource submitted could not be validated.", "recipients")
        return web.json_response(self.new(account, body))

    def new(self, account: Account, asked: Row) -> Row:
        """A new draft."""
        row: Row = {
            "id": secrets.token_hex(5),
            "status": "save",
            "create_time": iso(self._sandbox.clock.now_ms()),
            "send_time": "",
            "settings": {"title": "", **(asked.get("settings") or {})},
            "recipients": asked["recipients"],
            "content": None,
        }
        account.campaigns[row["id"]] = row
        return row

    async def _content(self, request: web.Request, account: Account) -> web.Response:
        body, campaign = await request.json(), self._campaign(request, account)
        if not {"html", "plain_text", "url", "template"} & set(body):
            raise Refused(400, "Invalid Resource", "The resource submitted could not be validated.", "html")
        template = (body.get("template") or {}).get("id")
        if template is not None and not any(t["id"] == template for t in account.templates):
            raise Refused(400, "Invalid Resource", "The resource submitted could not be validated.", "template.id")
        campaign["content"] = body
        return web.json_response(body)

    async def _checklist(self, request: web.Request, account: Account) -> web.Response:
        campaign = self._campaign(request, account)
        wrong = [
            heading
            for heading, there in {
                "Subject line": campaign["settings"].get("subject_line"),
                "From": campaign["settings"].get("from_name") and campaign["settings"].get("reply_to"),
                "Content": campaign["content"],
                "Audience": self._recipients(account, campaign),
            }.items()
            if not there
        ]
        items = [{"type": "error", "id": 500 + n, "heading": heading, "details": ""} for n, heading in enumerate(wrong)]
        return web.json_response({"is_ready": not wrong, "items": items})

    async def _send(self, request: web.Request, account: Account) -> web.Response:
        campaign = self._campaign(request, account)
        if campaign["status"] != "save" or not campaign["content"]:
            raise Refused(400, "Invalid Resource", "Campaign cannot be sent", "status")
        self._sandbox.send(account.name, campaign["id"])
        self._sandbox.record("send_campaign", account.name, title=campaign["settings"]["title"], id=campaign["id"])
        return web.Response(status=204)

    def send(self, account: Account, campaign: Row) -> Row:
        """Send a draft; what is told of it."""
        id_, list_id = campaign["id"], campaign["recipients"]["list_id"]
        campaign.update(status="sent", send_time=iso(self._sandbox.clock.now_ms()))
        account.sent_to[id_] = [
            {**_recipient(id_, list_id, row), "status": "sent", "open_count": 0, "last_open": ""}
            for row in self._recipients(account, campaign)
        ]
        subject = campaign["settings"].get("subject_line", "")
        return {"id": id_, "subject": subject, "status": "sent", "reason": "", "list_id": list_id}

    def _recipients(self, account: Account, campaign: Row) -> list[Row]:
        recipients = campaign["recipients"]
        segment = (recipients.get("segment_opts") or {}).get("saved_segment_id")
        return [
            row
            for row in account.lists[recipients["list_id"]].members.values()
            if row["status"] == "subscribed" and (segment is None or any(tag["id"] == segment for tag in row["tags"]))
        ]

    async def _reports(self, request: web.Request, account: Account) -> web.Response:
        since = moment(request.query, "since_send_time")
        sent = [c for c in account.campaigns.values() if c["status"] == "sent" and c["send_time"] > since]
        return web.json_response(page("reports", [account.report(campaign) for campaign in sent], request.query))

    async def _activity(self, request: web.Request, account: Account) -> web.Response:
        campaign, since = self._campaign(request, account), moment(request.query, "since")
        activity = account.activity.get(campaign["id"], {})
        # Every recipient is told, also one with nothing new.
        rows = [
            {**_whom(one), "activity": [e for e in activity.get(one["email_id"], ()) if e["timestamp"] > since]}
            for one in account.sent_to.get(campaign["id"], ())
        ]
        return web.json_response(page("emails", rows, request.query, campaign_id=campaign["id"]))

    async def _sent_to(self, request: web.Request, account: Account) -> web.Response:
        campaign = self._campaign(request, account)
        rows = account.sent_to.get(campaign["id"], ())
        return web.json_response(page("sent_to", rows, request.query, campaign_id=campaign["id"]))


def _whom(one: Row) -> Row:
    return {name: one[name] for name in ("campaign_id", "list_id", "list_is_active", "email_id", "email_address")}


def _recipient(campaign_id: str, list_id: str, row: Row) -> Row:
    whom = {"email_id": row["id"], "email_address": row["email_address"], "merge_fields": row["merge_fields"]}
    return {"campaign_id": campaign_id, "list_id": list_id, "list_is_active": True, **whom}
