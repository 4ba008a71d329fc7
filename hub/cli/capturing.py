"""Stored calls as fixtures: read, masked, tried with their connector, written."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import parse_qsl, urlencode

from pydantic_core import from_json

from hub.catalogue import Catalogue, nearest
from hub.cli.entry import open_existing_store
from hub.connector import Connector, Delivery, InboundRequest
from hub.errors import HubError, NotThere
from hub.masking import Masks
from hub.plugins import load_plugins
from hub.store import connections as accounts
from hub.store import deliveries
from hub.store.session import Row
from hub.testing import fixtures
from hub.testing.fixtures import ENDING, Fixture

# Of the way that a call took, not of the vendor.
_OF_THE_WAY = re.compile(
    r"host|connection|content-length|accept.*|user-agent|x-forwarded-.*|forwarded|via|traceparent|tracestate|x-real-ip"
    r"|cf-.*|transfer-encoding|x-request-id"
)


@dataclass
class Captured:
    """One fixture: the file, the events it parses to, what was masked where, and what is wrong with it."""

    file: str
    topic: str
    events: list[str]
    masked: dict[str, list[str]] = field(default_factory=dict)
    problem: str = ""


async def capture_deliveries(folder: Path, *, connection: str | None, topic: str | None, most: int) -> list[Captured]:
    """Write the newest stored calls into a folder, the same value masked alike in all of them. Raises NotThere."""
    async with open_existing_store() as store, store.read() as c:
        _, known = await accounts.everything(c)
        names = {row["name"]: row for row in known}
        if connection is not None and connection not in names:
            raise NotThere(
                f"there is no connection {connection}{nearest(connection, names)}; "
                "`hub connections list` shows what there is"
            )
        id_ = names[connection]["id"] if connection else None
        rows = await deliveries.whole(c, connection_id=id_, topic=topic, most=most)
        stored = await deliveries.topics(c) if topic and not rows else set()
    whose = {row["id"]: row for row in known}
    catalogue, key = load_plugins(quarantine=True).catalogue, Masks().key
    if topic and not rows:
        _require_topic(topic, stored | {one for trigger in catalogue.triggers().values() for one in trigger.topics})
    folder.mkdir(parents=True, exist_ok=True)
    return [_capture(row, whose.get(row["connection_id"]), catalogue, key, folder) for row in rows]


def _require_topic(topic: str, known: Collection[str]) -> None:
    if topic not in known:
        raise NotThere(f"no trigger takes the topic {topic}{nearest(topic, known)}; `hub deliveries` shows what came")


def _capture(row: Row, whose: Row | None, catalogue: Catalogue, key: bytes, folder: Path) -> Captured:
    request = from_json(row["request"])
    raw = Fixture(
        body=bytes(row["body"]),
        topic=row["topic"] or None,
        method=request["method"],
        query=request["url"].partition("?")[2],
        headers={n: v for n, v in request["headers"].items() if not _OF_THE_WAY.fullmatch(n)},
    )
    connector, masks = catalogue.connectors.get(row["connector"]), Masks(key)
    try:
        masked = _masked(raw, masks)
    except UnicodeError:
        return Captured("(not written)", row["topic"], [], problem="its body is no text, which a fixture has to be")
    before, _ = _events(raw, connector, whose, row)
    events, why = _events(masked, connector, whose, row)
    name = (events or before or [row["topic"]])[0].rpartition(".")[2]
    file = _free(folder, re.sub(r"\W+", "_", name).strip("_") or "delivery")
    file.write_text(fixtures.text_of(masked), encoding="utf-8")
    captured = Captured(str(file), row["topic"], events, masks.found)
    if connector is None:
        captured.problem = f"the connector {row['connector']} is not loaded, so nobody knows whether it parses"
    elif events != before:
        captured.problem = f"masked it no longer parses as it came{f' ({why})' if why else ''}: mend the file by hand"
    elif not events:
        captured.problem = f"it parses to no event, and did not as it came{f' ({why})' if why else ''}"
    return captured


def _masked(raw: Fixture, masks: Masks) -> Fixture:
    """The call with everything that belongs to people, or is secret, replaced. Raises UnicodeError."""
    text = raw.body.decode()
    try:
        body = json.dumps(masks.json(json.loads(text)), ensure_ascii=False)
    except ValueError:
        try:
            body = urlencode(masks.pairs(parse_qsl(text, keep_blank_values=True, strict_parsing=True)))
        except ValueError:
            body = masks.text(text, "body")
    query = urlencode(masks.pairs(parse_qsl(raw.query, keep_blank_values=True), "?"))
    headers = dict(masks.pairs(raw.headers.items(), "headers."))
    return replace(raw, body=body.encode(), query=query, headers=headers)


def _events(
    call: Fixture, connector: Connector | None, whose: Mapping[str, str] | None, row: Row
) -> tuple[list[str], str]:
    """The types of a call's events, and why there are none."""
    if connector is None:
        return [], ""
    request = InboundRequest(call.method, f"https://hub.example/in?{call.query}", call.headers, call.body)
    name, account = (whose["name"], whose["account"]) if whose else ("", "")
    delivery = Delivery(request, connector.name, name, account, row["topic"], row["received_at"])
    try:
        found = connector.parse(delivery)
    except Exception as error:  # a plugin's parse may raise anything; people are told what without the data
        return [], str(error) if isinstance(error, HubError) else type(error).__name__
    return [event.type for event in found or ()], "" if found is not None else "no trigger takes its topic"


def _free(folder: Path, name: str) -> Path:
    """A file that is not there yet."""
    file, number = folder / f"{name}{ENDING}", 1
    while file.exists():
        number += 1
        file = folder / f"{name}-{number}{ENDING}"
    return file
