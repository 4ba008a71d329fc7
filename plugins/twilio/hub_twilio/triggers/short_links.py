"""Clicks on short links, which Twilio tells by Event Streams: signed calls with a list of CloudEvents.

(twilio.com "Link Shortening event types: Link", schema version 3, page of 2026-06-17)
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from pydantic import BaseModel

from hub import Delivery, Identity
from hub_twilio.connector import twilio
from hub_twilio.triggers.reading import address

CLICKED = "com.twilio.daptbt.link-shortening.link-clicked"


class LinkClicked(BaseModel):
    """Somebody, or a program such as one that previews links, opened a short link of a message."""

    event_id: str
    message_id: str
    account_sid: str
    messaging_service_sid: str | None
    channel: str
    from_number: str | None
    to_number: str
    link: str
    """The long one, as it stood in the text."""
    shortened_link: str | None
    clicked_at: datetime
    user_agent: str | None


class _Click(BaseModel):
    message_sid: str
    account_sid: str
    messaging_service_sid: str | None = None
    to: str
    from_: str | None = None
    link: str
    shortened_link: str | None = None
    click_time: datetime
    user_agent: str | None = None


@twilio.trigger(
    "link_clicked",
    title="Link in a message clicked",
    payload=LinkClicked,
    topic="events",
    sample="link_clicked.delivery.json",
    # Twilio may tell an event more than once, under the same id (page "Event Streams", read 2026-11).
    fact=lambda click: click.event_id,
    subject=lambda click: Identity(phone=click.to_number),
    occurred_at=lambda click: click.clicked_at,
    correlate=("message_id", "link"),
    account=lambda click: click.account_sid,
    provides="sms.clicked",
)
def link_clicked(delivery: Delivery) -> Iterable[LinkClicked]:
    """A short link in a message was opened."""
    told = delivery.json()
    for event in told if isinstance(told, list) else [told]:
        if isinstance(event, dict) and event.get("type") == CLICKED:
            data = event.get("data")
            click = _Click.model_validate({**data, "from_": data.get("from")} if isinstance(data, dict) else data)
            channel, to_number = address(click.to)
            yield LinkClicked(
                event_id=str(event["id"]),
                message_id=click.message_sid,
                account_sid=click.account_sid,
                messaging_service_sid=click.messaging_service_sid,
                channel=channel,
                from_number=address(click.from_ or "")[1] or None,
                to_number=to_number,
                link=click.link,
                shortened_link=click.shortened_link,
                clicked_at=click.click_time,
                user_agent=click.user_agent,
            )
