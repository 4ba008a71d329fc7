"""Events that are routed in one batch mean what they would have meant one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.integration.test_runs import ADA, _cart

WAITING = """
recipe: waiting
on: {event: acme.carted}
exit_on: [{event: acme.purchased}]
steps:
  - wait_for:
      clicked: {event: acme.clicked}
    timeout: 1d
    clicked:
      - {do: acme.put_note, with: {key: clicked}}
"""

RESTARTED = """
recipe: restarted
on: {event: acme.carted}
entry: {per: contact, at_most: 9, within: 30d, while_inside: restart}
steps:
  - {wait: 1h}
  - {do: acme.put_note, with: {key: "{{ trigger.id }}"}}
"""


async def test_an_exit_that_comes_with_an_answer_ends_the_run(running: Callable[..., Any], database_url: str) -> None:
    async with running(database_url, work=False) as it:
        await it.publish(WAITING)
        await it.deliver("carted", _cart())
        await it.hub.pump.settle()
        # given an answer, and right after it the event that makes the run needless
        await it.deliver("clicked", {"id": "k-1", **ADA})
        await it.deliver("purchased", {"id": "p-1", **ADA})
        # when both are routed at once
        await it.hub.pump.settle()
        # then
        [run] = await it.runs()
        assert run["ended_by"] == "acme.purchased"
        assert it.sandbox.log == []


async def test_of_two_that_restart_a_recipe_the_later_goes_on(running: Callable[..., Any], database_url: str) -> None:
    async with running(database_url, work=False) as it:
        await it.publish(RESTARTED)
        # given a person who enters twice before anybody has looked
        await it.deliver("carted", _cart(id="c-1"))
        await it.deliver("carted", _cart(id="c-2"))
        # when both are routed at once
        await it.hub.pump.settle()
        # then
        first, second = await it.runs()
        assert (first["ended_by"], second["status"]) == ("cancelled", "sleeping")
