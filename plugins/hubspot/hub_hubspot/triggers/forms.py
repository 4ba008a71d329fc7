"""Who filled in which form. There is no webhook for it: each form's submissions are asked for.

(developers.hubspot.com "Forms API"; form-integrations v1 has no later version, read 2026-11-22)
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import datetime
from typing import Annotated

from pydantic import BeforeValidator, Field

from hub import ActionContext, Delivery, Identity, NotFound, Page, Rejected, e164
from hub_hubspot.client import Answer, PagedAnswer, paged
from hub_hubspot.connector import FORMS, hubspot
from hub_hubspot.paths import path
from hub_hubspot.reading import past_of_each
from hub_hubspot.triggers.changes import Moment, Payload, named

logger = logging.getLogger(__name__)

# All four types; without them HubSpot tells of its own forms only. (airbytehq/airbyte#49140)
_ALL_TYPES = "all"
# Comments on a blog are no submissions: asking for them is refused.
_UNASKED = "blog_comment"
_FORMS_AT_ONCE, _SUBMISSIONS_AT_ONCE = 500, 50


class Form(Answer):
    """A form. `form_type` is `hubspot`, `captured`, `flow` or `blog_comment`."""

    id: str
    name: str = ""
    form_type: str


class _FormPage(PagedAnswer):
    results: list[Form]


class _Value(Answer):
    name: str
    value: str = ""


class Submission(Answer):
    """One submission; a field of several values comes once for each."""

    conversion_id: str
    submitted_at: Annotated[datetime, BeforeValidator(lambda value: value / 1000 if isinstance(value, int) else value)]
    page_url: str | None = None
    values: list[_Value]


class _SubmissionPage(PagedAnswer):
    results: list[Submission]


class FormSubmitted(Payload):
    """A form that somebody filled in. `fields` has every answer by the field's internal name."""

    submission_id: str
    form_id: str
    form_name: str
    form_type: str
    submitted_at: Moment
    page_url: str | None = None
    email: str | None = None
    phone: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    fields: dict[str, str | list[str]] = Field(default_factory=dict)


def _person(form: FormSubmitted) -> Identity:
    return Identity(
        email=form.email,
        phone=e164(form.phone) if form.phone else None,
        first_name=form.first_name,
        last_name=form.last_name,
    )


@hubspot.trigger(
    "form_submitted",
    title="Form submitted",
    payload=FormSubmitted,
    sample="form_submitted.json",
    fact=lambda form: form.submission_id,
    subject=_person,
    occurred_at=lambda form: form.submitted_at,
    correlate=("form_id", "email"),
    provides="form.submitted",
    scopes=[FORMS],
)
def form_submitted(delivery: Delivery) -> Iterable[FormSubmitted]:
    """Somebody filled in a form."""
    return [FormSubmitted.model_validate(delivery.json())]


# -- asked for ---------------------------------------------------------------------------------------------------------


@hubspot.poll("form_submitted", every_s=120, overlap_s=900)
async def recent_submissions(
    ctx: ActionContext, cursor: str | None, since_ms: int
) -> AsyncIterator[Page[FormSubmitted]]:
    """What came in since, form by form. HubSpot tells the newest first, and sometimes late: hence the overlap."""
    async for form in forms(ctx):
        new: list[FormSubmitted] = []
        async for page in _submissions(ctx, form.id):
            some = [one for one in page.results if _ms(one) >= since_ms]
            new += [_made(form, one) for one in some]
            if len(some) < len(page.results):
                break
        if new:
            yield Page(list(reversed(new)), "")


@hubspot.history("form_submitted")
async def past_submissions(ctx: ActionContext, cursor: str | None, since_ms: int) -> AsyncIterator[Page[FormSubmitted]]:
    """All that came in since, form by form."""

    async def read(form: Form, after: str | None) -> AsyncIterator[tuple[list[FormSubmitted], str | None]]:
        async for page in _submissions(ctx, form.id, after):
            some = [one for one in page.results if _ms(one) >= since_ms]
            following = page.after if len(some) == len(page.results) else None
            yield [_made(form, one) for one in some], following
            if following is None:
                return

    async for made in past_of_each([form async for form in forms(ctx)], lambda form: form.id, read, cursor):
        yield made


async def forms(ctx: ActionContext) -> AsyncIterator[Form]:
    """The forms that are watched: those of the setting, else all whose submissions can be asked for."""
    watched = set(named(ctx.settings, "watched_forms"))
    query = {"limit": str(_FORMS_AT_ONCE), "formTypes": _ALL_TYPES}
    found = set()
    async for page in paged(ctx, path(ctx.settings, "forms"), query, _FormPage):
        for form in page.results:
            if form.form_type != _UNASKED and (not watched or form.id in watched):
                found.add(form.id)
                yield form
    if missing := sorted(watched - found):
        _leave_out(ctx, missing, "they are not there")


async def _submissions(ctx: ActionContext, form: str, after: str | None = None) -> AsyncIterator[_SubmissionPage]:
    """Pages of a form's submissions. One that HubSpot tells nothing of is logged, and does not stop the others."""
    query = {"limit": str(_SUBMISSIONS_AT_ONCE)}
    try:
        async for page in paged(ctx, path(ctx.settings, "submissions", f"/{form}"), query, _SubmissionPage, after):
            yield page
    except (NotFound, Rejected) as refused:
        # Deleted since it was listed, or of a type that is not asked for like that; a missing scope concerns all.
        if refused.status not in (400, 404):
            raise
        _leave_out(ctx, [form], "HubSpot does not tell their submissions")


def _leave_out(ctx: ActionContext, some: Sequence[str], why: str) -> None:
    logger.warning(
        "forms are left out",
        extra={"what": "forms_left_out", "connection_id": ctx.connection_id, "forms": list(some), "why": why},
    )


def _ms(one: Submission) -> float:
    return one.submitted_at.timestamp() * 1000


def _made(form: Form, one: Submission) -> FormSubmitted:
    answers = _answers(one.values)
    known = {name: _first(answers.get(field)) for name, field in _PERSON.items()}
    return FormSubmitted(
        submission_id=one.conversion_id,
        form_id=form.id,
        form_name=form.name,
        form_type=form.form_type,
        submitted_at=one.submitted_at,
        page_url=one.page_url,
        fields=answers,
        **known,
    )


_PERSON = {"email": "email", "phone": "phone", "first_name": "firstname", "last_name": "lastname"}


def _answers(values: Sequence[_Value]) -> dict[str, str | list[str]]:
    """By name the answer, or the answers where a name comes several times."""
    gathered: dict[str, list[str]] = {}
    for one in values:
        gathered.setdefault(one.name, []).append(one.value)
    return {name: found[0] if len(found) == 1 else found for name, found in gathered.items()}


def _first(answer: str | list[str] | None) -> str | None:
    return (answer[0] if isinstance(answer, list) else answer) or None
