"""Looking a number up: whether there can be such a one, and what kind of line it is."""

from __future__ import annotations

from urllib.parse import quote

from pydantic import BaseModel, Field

from hub import ActionContext, Effect
from hub_twilio.actions.fields import Input
from hub_twilio.client import LOOKUPS, read
from hub_twilio.connector import twilio


class LookupNumber(Input):
    """A number with its country code, or a national one with its country."""

    number: str = Field(min_length=1, max_length=40)
    country: str | None = Field(
        None, pattern="^[A-Z]{2}$", description="Of a national number, such as DE; without it North America's"
    )
    line_type: bool = Field(False, description="Ask for the kind of line and the carrier, too, which Twilio bills")


class LookedUpNumber(BaseModel):
    """What Twilio knows of the number. `line_type` is Twilio's word, such as `mobile` or `landline`."""

    valid: bool
    number: str | None = None
    """E.164, if it is valid."""
    country: str | None = None
    national_format: str | None = None
    line_type: str | None = None
    carrier: str | None = None
    reasons: list[str] = Field(default_factory=list)
    """Why it is not valid, in Twilio's words: `TOO_SHORT`."""


class _Line(BaseModel):
    type: str | None = None
    carrier_name: str | None = None


class _Lookup(BaseModel):
    valid: bool
    phone_number: str | None = None
    country_code: str | None = None
    national_format: str | None = None
    validation_errors: list[str] | None = None
    line_type_intelligence: _Line | None = None


@twilio.action(
    "lookup_number",
    title="Look up a number",
    input=LookupNumber,
    output=LookedUpNumber,
    effect=Effect.IDEMPOTENT,
    provides="phone.lookup",
    units={"lookups": lambda asked: int(asked.line_type)},
)
async def lookup_number(ctx: ActionContext, input: LookupNumber) -> LookedUpNumber:
    """Look up a number."""
    asked = {"Fields": "line_type_intelligence"} if input.line_type else {}
    if input.country:
        asked["CountryCode"] = input.country
    path = f"{LOOKUPS}/v2/PhoneNumbers/{quote(input.number, safe='')}"
    found = read(_Lookup, await ctx.http.request("GET", path, params=asked))
    line = found.line_type_intelligence or _Line()
    return LookedUpNumber(
        valid=found.valid,
        number=found.phone_number if found.valid else None,
        country=found.country_code,
        national_format=found.national_format,
        line_type=line.type,
        carrier=line.carrier_name,
        reasons=found.validation_errors or [],
    )


@lookup_number.simulate
def pretend(input: LookupNumber, now_ms: int) -> LookedUpNumber:
    """A valid mobile number."""
    return LookedUpNumber(valid=True, number=input.number, line_type="mobile" if input.line_type else None)


@lookup_number.describe
def describe(input: LookupNumber) -> str:
    """Which number would be looked up, and how far."""
    return f"Look up {input.number}" + (" with its kind of line" if input.line_type else "")
