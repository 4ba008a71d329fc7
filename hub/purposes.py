"""What a message is for, and whether an address may get it.

Owns purposes and the fold over one address's consent ledger. Who writes the ledger, and when it is asked, is the
store's and the worker's business.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from hub.catalogue import nearest
from hub.documents import Document, read
from hub.errors import RecipeErrors
from hub.events import ConsentState, Json


class LegalClass(StrEnum):
    """On what ground a message may be sent."""

    TRANSACTIONAL = "transactional"
    """The person's own business (an order, a password): needs no consent."""
    MARKETING = "marketing"
    """Needs a consent that stands."""
    SERVICE = "service"
    """A short answer to the person's own choice or request: passes a missing consent, names the step it confirms."""


@dataclass(frozen=True)
class Purpose:
    """What a message is for. `channel` None means every channel."""

    name: str
    channel: str | None
    legal_class: LegalClass


@dataclass(frozen=True)
class LedgerEntry:
    """One statement about one address on one channel; `purpose` `*` means every purpose."""

    state: ConsentState
    purpose: str
    reason: str
    at_ms: int


@dataclass(frozen=True)
class Permission:
    """Whether a message may leave. A refusal's `reason` is an outcome word, then why: `suppressed: stop`."""

    allowed: bool
    reason: str


# Of statements in the same millisecond the strictest is taken as the last: the order of rows must not decide.
_STRICTNESS = {ConsentState.GRANTED: 0, ConsentState.REVOKED: 1, ConsentState.BLOCKED: 2}
_START = "start"
# START is the person's own word on the channel and lifts a block there, but nothing lifts an erasure.
_NEVER_LIFTED = "erasure"


def permits(entries: Sequence[LedgerEntry], purpose: Purpose) -> Permission:
    """Whether one address may get a message of `purpose`, from its ledger on that channel, in any order.

    A block stops everything until a later grant with the reason `start`; a plain consent does not lift it.
    """
    block: LedgerEntry | None = None
    consent: LedgerEntry | None = None
    for entry in sorted(entries, key=lambda e: (e.at_ms, _STRICTNESS[e.state])):
        if entry.state is ConsentState.BLOCKED:
            block = block if block and block.reason == _NEVER_LIFTED else entry
            continue
        if entry.state is ConsentState.GRANTED and entry.reason == _START and block and block.reason != _NEVER_LIFTED:
            block = None
        if entry.purpose in ("*", purpose.name):
            consent = entry
    if block:
        return Permission(False, f"suppressed: {block.reason}")
    if purpose.legal_class is not LegalClass.MARKETING:
        return Permission(True, f"{purpose.legal_class.value} needs no consent")
    if consent is None:
        return Permission(False, "no_consent")
    if consent.state is ConsentState.REVOKED:
        return Permission(False, f"no_consent: revoked ({consent.reason})")
    return Permission(True, "consent given")


_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_FIELDS = ("channel", "class")
_LATER = ("caps", "quiet_hours", "priority")


def load_purposes(source: str, *, file: str | None = None) -> dict[str, Purpose]:
    """The purposes of a `purposes.yaml` by name (`cart: {channel: sms, class: marketing}`). Raises RecipeErrors."""
    document = read(source, file=file or "purposes.yaml")
    if not isinstance(document.value, dict):
        raise RecipeErrors([document.error('a list of purposes is expected, such as "cart: {class: marketing}"', ())])
    purposes = {name: _purpose(document, name, fields) for name, fields in document.value.items()}
    document.raise_errors()
    return {name: purpose for name, purpose in purposes.items() if purpose}


def _purpose(document: Document, name: str, fields: Json) -> Purpose | None:
    before = len(document.errors)
    if not _NAME.fullmatch(name):
        document.report(f"{name!r} is no name of a purpose: use lower-case letters, digits, - and _", (name,))
    if not isinstance(fields, dict):
        document.report(f"say what {name} is: {name}: {{channel: sms, class: marketing}}", (name,))
        return None
    for field in fields.keys() - set(_FIELDS):
        if field in _LATER:
            message = f"{field} is not part of this release; a purpose has {' and '.join(_FIELDS)}"
        else:
            message = f"unknown field {field}{nearest(field, _FIELDS)}; a purpose has {' and '.join(_FIELDS)}"
        document.report(message, (name, field))
    channel, legal_class = fields.get("channel"), fields.get("class")
    classes = [c.value for c in LegalClass]
    if legal_class is None:
        document.report(f"class is missing; write one of {', '.join(classes)}", (name,))
    elif legal_class not in classes:
        guess = nearest(str(legal_class), classes)
        document.report(f"{legal_class!r} is no class{guess}; write one of {', '.join(classes)}", (name, "class"))
    if channel is not None and not isinstance(channel, str):
        document.report("channel is a word such as sms or email", (name, "channel"))
    if len(document.errors) > before:
        return None
    return Purpose(name, channel, LegalClass(str(legal_class)))
