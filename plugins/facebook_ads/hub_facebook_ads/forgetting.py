"""Somebody who withdrew their consent, or is erased, leaves every audience of the ad account."""

from __future__ import annotations

from hub import ActionContext, Identity
from hub_facebook_ads.connector import facebook_ads
from hub_facebook_ads.matching import Identifiers, cells, identifies
from hub_facebook_ads.upload import upload


@facebook_ads.forget
async def forget(ctx: ActionContext, person: Identity) -> None:
    """Take a person out of all audiences by e-mail address and phone number, each for itself; idempotent.

    Nothing is done for a connection of a Page alone, or for somebody without either. Whoever was added by an `external_id`
    alone cannot be found by these.
    """
    account = ctx.settings.get("ad_account_id")
    # A row each, so that a number which changed since does not keep the address from being found.
    known = [cells(Identifiers(email=person.email)), cells(Identifiers(phone=person.phone))]
    rows = [row for row in known if identifies(row)]
    if account and rows:
        await upload(ctx, "DELETE", f"/{account}/usersofanyaudience", rows)
