"""The connector in a whole hub: what its worker makes of a team whose people take turns."""

from __future__ import annotations

from hub.connector import sandbox_secret
from hub.process import Hub
from hub.testing.contract.stage import hub_of, webhook
from hub_hubspot import hubspot
from hub_hubspot.sandbox import HubspotSandbox

PORTAL = "62515"
HOUR_MS = 3_600_000

ASSIGN = """
recipe: assign
on: {event: contract.begun}
steps:
  - {do: hubspot.assign_owner, with: {record: "{{ trigger.id }}", team: "9"}}
"""


async def begin(hub: Hub, id_: str) -> None:
    """What the recipe starts by."""
    connection, body = await hub.connections.by_name("contract"), f'{{"id": "{id_}"}}'.encode()
    headers = webhook.headers(body, sandbox_secret("contract", "contract", "webhook_secret"))
    await hub.ingest.receive("contract", connection.inbound_key, method="POST", query="", headers=headers, body=body)


async def test_a_team_takes_turns_also_where_answers_are_lost() -> None:
    async with hub_of(hubspot, {"portal_id": PORTAL}, work=True) as (hub, sandbox):
        assert isinstance(sandbox, HubspotSandbox)
        # given a team of three, and seven people one after the other
        portal = sandbox.portal(PORTAL)
        portal.owners[0]["teams"] = portal.owners[1]["teams"]
        made = [portal.make("contacts", {"email": f"p{n}@example.test"}, 0) for n in range(7)]
        await hub.library.apply(ASSIGN, publish=True)
        for n, record in enumerate(made):
            # when the answer to every other assignment is lost, so that it is made again
            sandbox.drop_answers = n % 2
            await begin(hub, record.id)
            await hub.time.advance(hub.clock.now_ms() + HOUR_MS, ring=hub.ring)
            assert sandbox.drop_answers == 0
        # then the next one's turn came each time, once
        assert [record.properties["hubspot_owner_id"] for record in made] == [
            "501", "502", "503", "501", "502", "503", "501",
        ]  # fmt: skip
        assert len([entry for entry in sandbox.log if entry.operation == "update_contacts"]) == 10


async def test_people_of_a_team_who_are_assigned_at_once_differ_by_one_at_most() -> None:
    async with hub_of(hubspot, {"portal_id": PORTAL}, work=True) as (hub, sandbox):
        assert isinstance(sandbox, HubspotSandbox)
        portal = sandbox.portal(PORTAL)
        made = [portal.make("contacts", {"email": f"p{n}@example.test"}, 0) for n in range(9)]
        await hub.library.apply(ASSIGN, publish=True)
        for record in made:
            await begin(hub, record.id)
        await hub.time.advance(hub.clock.now_ms() + HOUR_MS, ring=hub.ring)
        given = [record.properties["hubspot_owner_id"] for record in made]
        assert sorted(given.count(owner) for owner in ("502", "503")) == [4, 5]
