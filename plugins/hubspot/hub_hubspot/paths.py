"""The addresses of HubSpot's API in each of its versions: a connection's `api_version` decides.

`v3` stands for the numbered versions (v3, and v4 where a resource has it), a date for the dated ones that replace them.
A dated version is supported for 18 months. (developers.hubspot.com "API versioning" and changelog, read 2026-11-22)
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

NUMBERED = "v3"
DEFAULT = "2026-03"
# The first day on which a version may no longer answer. Of the numbered ones v4 goes first, the others in September 2027.
ENDS = {NUMBERED: date(2027, 3, 30), "2026-03": date(2027, 9, 1), "2026-09": date(2028, 3, 1)}

# Resource: its numbered path, and the dated one.
_PATHS = {
    "objects": ("/crm/v3/objects", "/crm/objects/{V}"),
    "record_associations": ("/crm/v4/objects", "/crm/objects/{V}"),
    "associations": ("/crm/v4/associations", "/crm/associations/{V}"),
    "owners": ("/crm/v3/owners", "/crm/owners/{V}"),
    "lists": ("/crm/v3/lists", "/crm/lists/{V}"),
    "pipelines": ("/crm/v3/pipelines", "/crm/pipelines/{V}"),
    "properties": ("/crm/v3/properties", "/crm/properties/{V}"),
    "preferences": ("/communication-preferences/v4", "/communication-preferences/{V}"),
    "emails": ("/marketing/v3/emails", "/marketing/emails/{V}"),
    "transactional_send": (
        "/marketing/v3/transactional/single-email/send",
        "/marketing/transactional/{V}/single-email/send",
    ),
    # Known by this one date alone, and so asked by it in later versions, too.
    "marketing_send": ("/marketing/v4/email/single-send", "/marketing/email-campaigns/2026-03/single-send"),
    "account": ("/account-info/v3/details", "/account-info/{V}/details"),
    "token": ("/oauth/v3/token", "/oauth/{V}/token"),
    # The numbered versions name no way to revoke.
    "revoke": ("/oauth/2026-03/token/revoke", "/oauth/{V}/token/revoke"),
    # Without a dated successor that is no beta.
    "forms": ("/marketing/v3/forms", "/marketing/v3/forms"),
    "submissions": ("/form-integrations/v1/submissions/forms", "/form-integrations/v1/submissions/forms"),
    "email_events": ("/email/public/v1/events", "/email/public/v1/events"),
}
_CUSTOM_EVENTS = {NUMBERED: "/events/v3/send", "2026-03": "/events/2026-03/send"}


def path(settings: Mapping[str, str], resource: str, rest: str = "") -> str:
    """The path of a resource in the connection's version, with what follows it: `path(ctx.settings, "objects", "/deals")`."""
    version = settings.get("api_version") or DEFAULT
    if resource == "custom_events":
        return _CUSTOM_EVENTS.get(version, f"/events/custom/{version}/send")
    numbered, dated = _PATHS[resource]
    return (numbered if version == NUMBERED else dated.replace("{V}", version)) + rest
