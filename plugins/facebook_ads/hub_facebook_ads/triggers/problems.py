"""Audiences and ad accounts that got into trouble. Meta calls nobody for these, so that they are asked for.

What is wrong now is compared with the poll's own memory, its cursor: a trouble is told once when it begins, and again when
it comes back after it had ended.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

from pydantic import BaseModel, ConfigDict, TypeAdapter

from hub import ActionContext, Page
from hub.connector import Trigger
from hub_facebook_ads.client import Named, call, edge
from hub_facebook_ads.connector import facebook_ads

# 1 is active. With 8 and 9 ads still run. (dev.fb "Ad Account" reference; the other names from public schemas of it,
# read 2026-11-22)
ACCOUNT_STATES = {
    1: "active",
    2: "disabled",
    3: "unsettled",
    7: "pending_risk_review",
    8: "pending_settlement",
    9: "in_grace_period",
    100: "pending_closure",
    101: "closed",
}
_ACTIVE = 1
_ADS_RUN = {1, 8, 9}
_AUDIENCE_FIELDS = "id,name,operation_status,delivery_status"


class _Payload(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", coerce_numbers_to_str=True)


class AudienceProblem(_Payload):
    """An audience whose `operation_status` is one that the connection counts as a problem."""

    audience_id: str
    name: str
    code: int
    description: str = ""
    """Meta's own sentence."""
    occurrence: int = 1
    """The how-manieth problem of this audience it is."""


class AdAccountProblem(_Payload):
    """An ad account that is not active."""

    ad_account_id: str
    name: str
    status: int
    state: str
    """In words, `unknown` for a number that is not known."""
    ads_run: bool
    """Whether ads are still shown."""
    disable_reason: int | None = None
    occurrence: int = 1


class _Status(_Payload):
    code: int = 0
    description: str = ""


class _Audience(Named):
    operation_status: _Status = _Status()


class _AdAccount(Named):
    account_status: int
    disable_reason: int | None = None


# -- the triggers ------------------------------------------------------------------------------------------------------

# Nothing parses a call for them, so that they are declared without a parse.
audience_problem = Trigger(
    connector=facebook_ads.name,
    name="audience_problem",
    title="An audience got into trouble",
    payload=AudienceProblem,
    fact=lambda problem: f"{problem.audience_id}:{problem.occurrence}:{problem.code}",
    sample="audience_problem.json",
    correlate=("audience_id",),
)
ad_account_problem = Trigger(
    connector=facebook_ads.name,
    name="ad_account_problem",
    title="The ad account is not active",
    payload=AdAccountProblem,
    fact=lambda problem: f"{problem.ad_account_id}:{problem.occurrence}:{problem.status}",
    sample="ad_account_problem.json",
    correlate=("ad_account_id",),
)
facebook_ads.triggers |= {trigger.name: trigger for trigger in (audience_problem, ad_account_problem)}


# -- what is remembered ------------------------------------------------------------------------------------------------


class _Trouble(BaseModel):
    """How often something was in trouble, and with which code it is now; 0 when it is well."""

    times: int = 0
    code: int = 0


_Memory = TypeAdapter(dict[str, _Trouble])


def _remembered(cursor: str | None) -> dict[str, _Trouble]:
    return _Memory.validate_json(cursor) if cursor else {}


def _noted(memory: dict[str, _Trouble], id: str, code: int) -> int | None:
    """Remember how something is. The number of the trouble when it is a new one, else None."""
    before = memory.get(id, _Trouble())
    if code == before.code:
        return None
    # Another code of the same trouble is news as well.
    memory[id] = _Trouble(times=before.times + (code != 0), code=code)
    return memory[id].times if code else None


def _kept(memory: Mapping[str, _Trouble]) -> str:
    return _Memory.dump_json(dict(memory)).decode()


# -- the polls ---------------------------------------------------------------------------------------------------------


@facebook_ads.poll("audience_problem", every_s=3600, overlap_s=0)
async def troubled_audiences(
    ctx: ActionContext, cursor: str | None, since_ms: int
) -> AsyncIterator[Page[AudienceProblem]]:
    """The audiences that got into trouble since the last poll; nothing for a connection of a Page alone."""
    account = ctx.settings.get("ad_account_id")
    if not account:
        return
    problems = {int(code) for code in ctx.settings["audience_problem_codes"].split()}
    memory = _remembered(cursor)
    params = {"fields": _AUDIENCE_FIELDS, "limit": "20"}
    async for audiences, _ in edge(ctx, f"/{account}/customaudiences", _Audience, params=params):
        found = []
        for one in audiences:
            status = one.operation_status
            number = _noted(memory, one.id, status.code if status.code in problems else 0)
            if number is not None:
                found.append(
                    AudienceProblem(
                        audience_id=one.id,
                        name=one.name,
                        code=status.code,
                        description=status.description,
                        occurrence=number,
                    )
                )
        yield Page(found, _kept(memory))


@facebook_ads.poll("ad_account_problem", every_s=3600, overlap_s=0)
async def troubled_ad_account(
    ctx: ActionContext, cursor: str | None, since_ms: int
) -> AsyncIterator[Page[AdAccountProblem]]:
    """The ad account, if it stopped being active since the last poll; nothing for a connection of a Page alone."""
    account = ctx.settings.get("ad_account_id")
    if not account:
        return
    memory = _remembered(cursor)
    fields = {"fields": "id,name,account_status,disable_reason"}
    found = await call(ctx, "GET", f"/{account}", _AdAccount, params=fields)
    status = found.account_status
    number = _noted(memory, found.id, 0 if status == _ACTIVE else status)
    problem = AdAccountProblem(
        ad_account_id=found.id,
        name=found.name,
        status=status,
        state=ACCOUNT_STATES.get(status, "unknown"),
        ads_run=status in _ADS_RUN,
        disable_reason=found.disable_reason or None,
        occurrence=number or 1,
    )
    yield Page([problem] if number is not None else [], _kept(memory))
