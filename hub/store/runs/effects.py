"""Effects: the intent before a call, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_core import to_json

from hub.errors import ConnectorError
from hub.events import Json
from hub.store import spending
from hub.store.runs.rows import EffectRow
from hub.store.session import Change, Connection
from hub.values import value

_CODE = 80


@value(frozen=True)
class EffectResult:
    """What became of an effect; written wherever key and token match, whatever the epoch."""

    key: str
    token: str
    action: str
    state: str
    outcome: str
    reason: str
    response: Mapping[str, Json] | None
    """The output of what was done, else the `refusal`."""
    at_ms: int
    message: bool = False
    unspent: bool = False
    """The attempt does not count: the credentials were refused, or the call was held back at the last moment."""
    spent: bool = False
    """Whether it was counted under spending caps."""


def refusal(error: Exception | None) -> Mapping[str, Json] | None:
    """What a vendor gave with an error: `http_status`, and its own `code` (a word: a long one is cut off); None: neither."""
    if not isinstance(error, ConnectorError) or (error.status is None and error.code is None):
        return None
    return {"http_status": error.status, "code": None if error.code is None else str(error.code)[:_CODE]}


# That a call was not made says nothing any more once somebody else has found out, or given up finding out, about it.
_RESULT = """
update effect set state = r.state, outcome = r.outcome, reason = r.reason, response = r.response,
finished_at = case when r.state = 'planned' then null else r.at end, attempts = effect.attempts - r.unspent
from {rows} where effect.key = r.key and effect.token = r.token and (r.state <> 'planned' or effect.state = 'intended')
"""
_RESULT_COLUMNS = dict.fromkeys(("key", "token", "state", "outcome", "reason", "response"), "text") | {
    "at": "bigint",
    "unspent": "bigint",
}
_INTENT = """
insert into effect (key, run_id, step_id, action, connection, state, token, request, attempts, intended_at, batch)
select key, run_id, step_id, action, connection, state, token, request, attempts, intended_at, batch from {rows} where true
on conflict (key) do update
set state = excluded.state, token = excluded.token, attempts = excluded.attempts, intended_at = excluded.intended_at,
action = excluded.action, connection = excluded.connection, request = excluded.request, batch = excluded.batch
"""
_INTENT_COLUMNS = dict.fromkeys(
    ("key", "run_id", "step_id", "action", "connection", "state", "token", "request", "batch"), "text"
) | {"attempts": "bigint", "intended_at": "bigint"}


def outcomes(results: Sequence[EffectResult]) -> tuple[Change, Change, Change]:
    """What became of effects, and of the messages among them: for `Connection.together`."""
    messages = [r for r in results if r.message]
    return (
        Change(_RESULT, _RESULT_COLUMNS, [_result_row(r) for r in results]),
        Change(
            "update message set sent_at = r.at from {rows} where message.effect_key = r.key",
            {"key": "text", "at": "bigint"},
            [{"key": m.key, "at": m.at_ms} for m in messages if m.state == "done"],
        ),
        # What certainly was not sent gives its reservation back; what may have been sent, also by somebody else, keeps it.
        Change(
            "delete from message where effect_key in (select effect.key from {rows} join effect on effect.key = r.key "
            "and effect.token = r.token and (r.state <> 'planned' or effect.state in ('intended', 'planned')))",
            {"key": "text", "token": "text", "state": "text"},
            [
                {"key": m.key, "token": m.token, "state": m.state}
                for m in messages
                if m.state not in {"done", "unknown"}
            ],
        ),
    )


async def record(c: Connection, results: Sequence[EffectResult]) -> None:
    """Write what became of effects that are no messages."""
    await c.group(_RESULT, _RESULT_COLUMNS, [_result_row(r) for r in results])


def intents(effects: Sequence[EffectRow]) -> Change:
    """The intents of effects."""
    return Change(_INTENT, _INTENT_COLUMNS, [_intent_row(e) for e in effects])


async def intend(c: Connection, effect: EffectRow) -> None:
    """Write an effect's intent."""
    await c.group(_INTENT, _INTENT_COLUMNS, [_intent_row(effect)])


async def reserve_message(
    c: Connection, effect_key: str, *, contact_id: str | None, channel: str, purpose: str, recipe: str, at_ms: int
) -> None:
    """Count a message about to leave against the contact's caps."""
    await c.run(
        "insert into message (effect_key, contact_id, channel, purpose, recipe, reserved_at) "
        "values (:key, :contact, :channel, :purpose, :recipe, :at) on conflict (effect_key) do update set reserved_at = :at",
        key=effect_key,
        contact=contact_id,
        channel=channel,
        purpose=purpose,
        recipe=recipe,
        at=at_ms,
    )


async def settle_spending(c: Connection, results: Sequence[EffectResult]) -> None:
    """After work was locked, as at the gate, so that neither waits for the other."""
    for made in (True, False):
        spent = [(r.key, r.token) for r in results if (r.state in {"done", "unknown"}) is made]
        await spending.settle(c, spent, made=made)


def _result_row(r: EffectResult) -> dict[str, Any]:
    return {
        "key": r.key,
        "token": r.token,
        "state": r.state,
        "outcome": r.outcome,
        "reason": r.reason,
        "response": to_json(r.response).decode() if r.response is not None else None,
        "at": r.at_ms,
        "unspent": int(r.unspent),
    }


def _intent_row(e: EffectRow) -> dict[str, Any]:
    return {
        "key": e.key,
        "run_id": e.run_id,
        "step_id": e.step_id,
        "action": e.action,
        "connection": e.connection,
        "state": e.state,
        "token": e.token,
        "request": to_json(e.request).decode(),
        "attempts": e.attempts,
        "intended_at": e.intended_at_ms,
        "batch": e.batch,
    }
