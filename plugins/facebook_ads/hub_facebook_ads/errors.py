"""What Meta's error codes mean. Decided by code and subcode, never by the HTTP status, which says little.

Codes and reactions: Graph API "Handling errors", the Customer File Custom Audiences and Conversions API guides, v25.0,
read 2026-11-22. Numbers that no table of Meta's explains fall back to the shared status table.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel, ValidationError

from hub import (
    AuthExpired,
    ConnectorError,
    Json,
    NotFound,
    OutcomeUnknown,
    PermanentError,
    RateLimited,
    Rejected,
    Response,
    RetryableError,
)
from hub_facebook_ads.usage import regained_after_s

# Meta gives no Retry-After; without a time of its own a minute is where waiting begins.
_THROTTLED_S = 60.0
_BLOCKED_S = 3600.0
_UPDATING_S = 600.0


class _Error(BaseModel):
    """The body's `error`. Its `message` is left alone: it repeats what was sent."""

    code: int = 0
    error_subcode: int = 0
    is_transient: bool = False
    error_user_title: str | None = None
    error_user_msg: str | None = None
    error_data: Json = None
    fbtrace_id: str | None = None

    @property
    def name(self) -> str:
        """The code, with its subcode where it has one: `190/463`."""
        return f"{self.code}/{self.error_subcode}" if self.error_subcode else str(self.code)


@dataclass(frozen=True)
class _Meaning:
    error: type[ConnectorError]
    sentence: str
    retry_after_s: float | None = None


def _operator(sentence: str) -> _Meaning:
    return _Meaning(PermanentError, sentence)


_FLAGGED = _operator(
    "Meta flagged the audience for what its name or data suggest: appeal in the Audience Manager, or make a new one"
)
_RECONNECT = "then give the connection a new token: `hub connections reauthorise NAME`"

# Told as codes in one source and as subcodes in another.
_GONE = {
    1487301: _Meaning(NotFound, "the audience is not shared with this ad account: share it, or choose another"),
    1487366: _Meaning(NotFound, "the audience was deleted: choose another"),
}
# Looked at before the codes alone: a subcode says more.
_BY_SUBCODE = {
    **_GONE,
    33: _Meaning(
        NotFound, "there is no such object, or the token may not see it: check the id and the token's permissions"
    ),
    458: _Meaning(AuthExpired, f"the app was removed from the account: add it again at Meta, {_RECONNECT}"),
    460: _Meaning(AuthExpired, f"the password of the token's owner was changed: log in at Meta, {_RECONNECT}"),
    463: _Meaning(AuthExpired, f"the token has expired: make a system user token that never does, {_RECONNECT}"),
    467: _Meaning(AuthExpired, f"the token is no longer valid: make a new one at Meta, {_RECONNECT}"),
    1713228: _FLAGGED,
    1713230: _FLAGGED,
    1713231: _FLAGGED,
    1870050: _operator(
        "the ad account does not belong to the business of the token: link them in the Business settings"
    ),
    1870090: _operator(
        "the Custom Audience terms are not accepted for this ad account: accept them in the Ads Manager"
    ),
    1870144: _Meaning(Rejected, "the audience is too large to be replaced"),
    1870145: _Meaning(RetryableError, "the audience is being updated; the hub asks again", _UPDATING_S),
    2804003: _Meaning(Rejected, "an event is older than Meta takes (7 days, in a shop 62)"),
}
_BY_CODE = {
    **_GONE,
    3: _operator("the app lacks a capability that this needs: ask for it in the App Dashboard"),
    10: _operator("the app or the token lacks a permission that this needs: see the plugin's README"),
    102: _Meaning(AuthExpired, f"the session has ended: make a new token at Meta, {_RECONNECT}"),
    105: _Meaning(Rejected, "the call has too many parameters"),
    190: _Meaning(AuthExpired, f"Meta does not accept the token: make a new one at Meta, {_RECONNECT}"),
    341: _Meaning(RetryableError, "Meta has set a temporary limit; the hub asks again every hour", _BLOCKED_S),
    368: _Meaning(
        RetryableError, "Meta has blocked this for a while for a policy: see the Business Support Home", _BLOCKED_S
    ),
    2650: _operator(
        "the audience cannot be updated like this: most often it was filled before by another kind of upload; "
        "make a new audience for the hub"
    ),
    2655: _operator("the marketing messaging terms are not accepted: accept them in the Business settings"),
    **dict.fromkeys(range(200, 300), _operator("a permission is missing: see those in the plugin's README")),
}
_INVALID = 100
_RATES = {4, 17, 32, 613, *range(80000, 80015)}
# Whether anything was done before it broke is not said, so it may have been.
_BROKEN = {1, 2, 5000, 21009}


def classify(response: Response) -> ConnectorError | None:
    """What an answer means, whatever its status; None leaves it to the shared status table."""
    if response.body.lstrip()[:1] == b"<":
        return OutcomeUnknown(
            "Meta answered with a web page instead of JSON: an outage, or an upload that was too large",
            status=response.status,
        )
    try:
        body = response.json()
    except OutcomeUnknown as error:
        return error if response.status < 300 else None
    if not isinstance(body, dict):
        return None
    if isinstance(body.get("error"), dict):
        return _meant(body["error"], response)
    # The documentation shows it as a boolean and as a text.
    if str(body.get("success", "true")).lower() == "false":
        return Rejected("Meta answered that it was not done, and gives no reason", status=response.status)
    return None


def _meant(raw: Mapping[str, Json], response: Response) -> ConnectorError | None:
    try:
        told = _Error.model_validate(raw)
    except ValidationError:
        return OutcomeUnknown("Meta's error cannot be read", status=response.status)
    found = _error(told, response)
    if found is not None:
        found.code, found.status, found.request_id = told.name, response.status, told.fbtrace_id
    return found


def _error(told: _Error, response: Response) -> ConnectorError | None:
    if told.code in _RATES:
        wait_s = regained_after_s(response.headers) or _THROTTLED_S
        return RateLimited(f"Meta asks for fewer calls ({told.name})", retry_after_s=wait_s)
    known = _BY_SUBCODE.get(told.error_subcode)
    if known is None and (told.is_transient or told.code in _BROKEN):
        return OutcomeUnknown(f"Meta had a passing fault ({told.name})")
    known = known or _BY_CODE.get(told.code)
    if known is not None:
        return _made(known, told)
    if response.status >= 500 and told.code != _INVALID:
        return OutcomeUnknown(f"Meta answered {response.status} ({told.name})")
    return Rejected(f"Meta refused the call ({told.name}){_details(told)}")


def _made(known: _Meaning, told: _Error) -> ConnectorError:
    sentence = f"{known.sentence} ({told.name})"
    if issubclass(known.error, RetryableError):
        return known.error(sentence, retry_after_s=known.retry_after_s)
    return known.error(sentence)


_ALLUDES = re.compile(r"@|\d{5}|[0-9a-f]{16}")


def _details(told: _Error) -> str:
    """What helps to correct the input: the fields to blame, and Meta's sentence unless it seems to quote somebody."""
    words = next((w for w in (told.error_user_msg, told.error_user_title) if w and not _ALLUDES.search(w)), "")
    blamed = _blamed(told.error_data)
    where = f" at {', '.join(blamed)}" if blamed else ""
    return f"{where}: {words}" if words else where


def _blamed(data: Json) -> list[str]:
    paths = data.get("blame_field_specs") if isinstance(data, dict) else None
    found = [path for path in paths if isinstance(path, list)] if isinstance(paths, list) else []
    return [".".join(map(str, path)) for path in found if not _ALLUDES.search(".".join(map(str, path)))]
