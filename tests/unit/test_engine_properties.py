"""Deciding is total and deterministic: any small recipe, whatever arrives in whatever order, with crashes between."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from hub import engine
from hub.recipes import bind
from tests.unit.language import CATALOGUE, CONNECTIONS, CONTACT, HOUR, NOW, happened, loaded

CONDITIONS = st.sampled_from(
    [
        {"trigger.paid": True},
        {"trigger.total": {"gte": "50.00 EUR"}},
        {"contact.tags": {"contains": "seen"}},
        {"not": {"contact.attributes.phase": "decision"}},
        {"trigger.email": "unknown"},
    ]
)
ON_ERROR = st.sampled_from([{}, {"on_error": "continue"}, {"on_error": "stop"}, {"on_error": [{"do": "acme.tag"}]}])
ON_UNKNOWN = st.sampled_from([{}, {"on_unknown": "continue"}, {"on_unknown": "ask"}])
SIMPLE = st.one_of(
    st.builds(lambda a, b: {"do": "acme.tag", **a, **b}, ON_ERROR, ON_UNKNOWN),
    st.builds(
        lambda a: {"do": "sms.send", "purpose": "order", "with": {"to": "{{ contact.phone }}", "body": "x"}, **a},
        ON_ERROR,
    ),
    st.sampled_from(["1h", "3d", "exit", {"time": "09:00", "zone": "contact"}, {"until": "{{ trigger.email }}"}]).map(
        lambda wait: {"wait": wait}
    ),
    st.just({"set": {"contact.tags": {"add": "seen"}}}),
    st.just({"set": {"contact.attributes.x": "{{ trigger.email }}"}}),
)


def _lists(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(inner, max_size=2)


STEPS = st.recursive(
    SIMPLE,
    lambda inner: st.one_of(
        st.builds(lambda c, a, b: {"if": c, "then": a, "else": b}, CONDITIONS, _lists(inner), _lists(inner)),
        st.builds(
            lambda c, a, b: {"choose": [{"if": c, "then": a}, {"else": b}]}, CONDITIONS, _lists(inner), _lists(inner)
        ),
        st.builds(
            lambda a, b, t: (
                {"wait_for": {"said": {"event": "sms.received"}}, "timeout": t, "said": a}
                | ({"on_timeout": b} if t != "never" else {})
            ),
            _lists(inner),
            _lists(inner),
            st.sampled_from(["2h", "never"]),
        ),
    ),
    max_leaves=6,
)
RECIPES = st.builds(
    lambda steps, end: {
        "recipe": "r",
        "on": {"event": "acme.order_paid"},
        "exit_on": [{"event": "acme.order_sent", "then": [{"do": "acme.tag"}]}],
        "on_end": end,
        "steps": steps,
    },
    st.lists(STEPS, min_size=1, max_size=4),
    st.lists(st.just({"do": "acme.tag"}), max_size=2),
)
ARRIVALS: st.SearchStrategy[engine.Arrival] = st.one_of(
    st.sampled_from([engine.ActionDone("done", {}), engine.ActionDone("failed", None, "x")]),
    st.sampled_from([engine.ActionDone("unknown"), engine.ActionDone("skipped", None, "no_consent")]),
    st.sampled_from([engine.TimerFired(), engine.Resumed(), engine.Started(), engine.Cancelled("by Ada")]),
    st.just(engine.Answered("said", happened("acme.replied"))),
    st.just(engine.Exited(0, happened("acme.order_sent"))),
)


def _program(recipe: dict[str, Any]) -> engine.Program:
    # JSON is YAML, so that the recipe needs no writer.
    definition = bind(loaded(json.dumps(recipe)).definition, CATALOGUE, CONNECTIONS)
    return engine.compile(json.loads(json.dumps(definition)))


@settings(deadline=None)
@given(RECIPES, st.lists(ARRIVALS, max_size=12), st.booleans())
def test_decide_is_total_and_deterministic(recipe: dict[str, Any], arrivals: list[engine.Arrival], known: bool) -> None:
    # given any run
    program = _program(recipe)
    run = engine.RunState("r1", "c1" if known else None, NOW, happened(), None, {})
    facts = engine.Facts(contact=CONTACT if known else None)
    now_ms = NOW
    finished = 0
    for arrival in [engine.Started(), *arrivals]:
        # when something arrives
        decision = engine.decide(program, run, arrival, facts, now_ms)
        # then there is a decision, the same again, and it can be stored
        assert isinstance(decision, engine.Decision)
        assert decision == engine.decide(program, run, arrival, facts, now_ms)
        ctx = json.loads(json.dumps(decision.ctx))
        assert ctx == decision.ctx
        assert all(record.reason for record in decision.trail)
        if isinstance(decision.next, engine.Finish):
            finished += 1
            assert decision.position is None
            break
        assert decision.position in program.nodes
        run = replace(run, position=decision.position, ctx=ctx)
        # and after a crash the same is to be done
        again = engine.decide(program, run, engine.Resumed(), facts, now_ms)
        assert isinstance(again, engine.Decision)
        assert again.next == decision.next or isinstance(again.next, engine.Wait)
        assert not again.exits
        now_ms += HOUR
    assert finished <= 1


@settings(deadline=None)
@given(RECIPES)
def test_a_run_whose_every_step_goes_well_ends_by_itself(recipe: dict[str, Any]) -> None:
    program = _program(recipe)
    run = engine.RunState("r1", "c1", NOW, happened(), None, {})
    facts, now_ms = engine.Facts(contact=CONTACT), NOW
    arrival: engine.Arrival = engine.Started()
    for _ in range(100):
        decision = engine.decide(program, run, arrival, facts, now_ms)
        assert isinstance(decision, engine.Decision)
        run = replace(run, position=decision.position, ctx=decision.ctx)
        match decision.next:
            case engine.Finish():
                return
            case engine.Act():
                arrival = engine.ActionDone("done", {})
            case engine.Sleep(until_ms, _):
                now_ms, arrival = max(now_ms, until_ms), engine.TimerFired()
            case engine.Wait(watches, until_ms, _) if watches:
                arrival = engine.Answered("said", happened("acme.replied"))
            case engine.Wait(_, until_ms, _):
                arrival = engine.Exited(0, happened("acme.order_sent"))
    raise AssertionError("the run did not end")
