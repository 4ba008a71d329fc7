"""Campaigns: pausing, resuming, and what they may spend.

`POST /{id}` with `status`, `daily_budget` or `lifetime_budget`: dev.fb "Ad Campaign Management" and "Advantage campaign
budget", v25.0, read 2026-11-22.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from hub import ActionContext, Chosen, Effect, Money, Rejected
from hub_facebook_ads.client import Done, Node, ad_account, call, node
from hub_facebook_ads.connector import facebook_ads
from hub_facebook_ads.money import minor_units

_CampaignId = Annotated[str, Chosen("campaigns")]


def _money(value: Any) -> Any:  # the input of a validator may be anything
    return Money.parse(value) if isinstance(value, str) else value


class _Input(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)


class Campaign(_Input):
    """A campaign of the ad account."""

    campaign_id: _CampaignId


class CampaignStatus(BaseModel):
    """The campaign as it was set; whether it delivers depends on its ad sets and ads, too."""

    campaign_id: str
    status: Literal["PAUSED", "ACTIVE"]


class Budget(_Input):
    """What a campaign, or an ad set whose campaign has no budget of its own, may spend: a day or in all."""

    campaign_id: _CampaignId | None = None
    ad_set_id: Annotated[str, Chosen("ad_sets")] | None = None
    daily: Annotated[Money, BeforeValidator(_money)] | None = Field(None, description="A day: 50.00 EUR")
    lifetime: Annotated[Money, BeforeValidator(_money)] | None = Field(None, description="In all: 900.00 EUR")

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        if (self.campaign_id is None) == (self.ad_set_id is None):
            raise ValueError("give either campaign_id or ad_set_id")
        if (self.daily is None) == (self.lifetime is None):
            raise ValueError("give either daily or lifetime")
        if minor_units(self.amount) <= 0:
            raise ValueError(f"{self.amount} is no budget; pause the campaign instead")
        return self

    @property
    def object_id(self) -> str:
        """The campaign or ad set."""
        return self.campaign_id or self.ad_set_id or ""

    @property
    def amount(self) -> Money:
        """The budget, whichever it is."""
        found = self.daily or self.lifetime
        assert found is not None, "checked by the model"
        return found


class BudgetSet(BaseModel):
    """The budget as it was set, in the units that Meta counts in."""

    object_id: str
    amount: Money


class _Currency(Node):
    currency: str


@facebook_ads.action(
    "pause_campaign", title="Pause a campaign", input=Campaign, output=CampaignStatus, effect=Effect.IDEMPOTENT
)
async def pause_campaign(ctx: ActionContext, input: Campaign) -> CampaignStatus:
    """Stop a campaign from being shown until it is resumed."""
    await call(ctx, "POST", f"/{node(input.campaign_id)}", Done, form={"status": "PAUSED"})
    return CampaignStatus(campaign_id=input.campaign_id, status="PAUSED")


@facebook_ads.action(
    "resume_campaign", title="Resume a campaign", input=Campaign, output=CampaignStatus, effect=Effect.IDEMPOTENT
)
async def resume_campaign(ctx: ActionContext, input: Campaign) -> CampaignStatus:
    """Let a paused campaign be shown again; from now on it spends."""
    await call(ctx, "POST", f"/{node(input.campaign_id)}", Done, form={"status": "ACTIVE"})
    return CampaignStatus(campaign_id=input.campaign_id, status="ACTIVE")


@facebook_ads.action("set_budget", title="Set a budget", input=Budget, output=BudgetSet, effect=Effect.IDEMPOTENT)
async def set_budget(ctx: ActionContext, input: Budget) -> BudgetSet:
    """Set what a campaign or ad set may spend. Raises Rejected for another currency than the ad account's."""
    params = {"fields": "id,currency"}
    currency = (await call(ctx, "GET", f"/{ad_account(ctx)}", _Currency, params=params)).currency
    if input.amount.currency != currency:
        # Meta would take the bare number for its own.
        raise Rejected(f"the ad account counts in {currency}: write the budget in {currency}")
    name = "daily_budget" if input.daily else "lifetime_budget"
    await call(ctx, "POST", f"/{node(input.object_id)}", Done, form={name: str(minor_units(input.amount))})
    return BudgetSet(object_id=input.object_id, amount=input.amount)


@pause_campaign.simulate
def _pretend_pause(input: Campaign, now_ms: int) -> CampaignStatus:
    return CampaignStatus(campaign_id=input.campaign_id, status="PAUSED")


@resume_campaign.simulate
def _pretend_resume(input: Campaign, now_ms: int) -> CampaignStatus:
    return CampaignStatus(campaign_id=input.campaign_id, status="ACTIVE")


@set_budget.simulate
def _pretend_budget(input: Budget, now_ms: int) -> BudgetSet:
    return BudgetSet(object_id=input.object_id, amount=input.amount)


@pause_campaign.describe
def _describe_pause(input: Campaign) -> str:
    return f"pause campaign {input.campaign_id}"


@resume_campaign.describe
def _describe_resume(input: Campaign) -> str:
    return f"resume campaign {input.campaign_id}, which spends from then on"


@set_budget.describe
def _describe_budget(input: Budget) -> str:
    what = f"campaign {input.campaign_id}" if input.campaign_id else f"ad set {input.ad_set_id}"
    return f"let {what} spend {input.amount} {'a day' if input.daily else 'in all'}"
