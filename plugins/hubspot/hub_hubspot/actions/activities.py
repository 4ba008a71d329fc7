"""Tasks and notes on a contact."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from hub import ActionContext, Chosen, Effect, parse_duration_ms
from hub.clock import rfc3339
from hub_hubspot import client
from hub_hubspot.actions.fields import Contact, Input
from hub_hubspot.actions.making import contact_id, made_before, marked
from hub_hubspot.connector import CONTACTS_READ, CONTACTS_WRITE, hubspot

# HubSpot's own association types. (developers.hubspot.com "Associations v4", read 2026-11-22)
_NOTE_TO_CONTACT, _TASK_TO_CONTACT = 202, 204


class NoteInput(Input):
    """A note on a contact."""

    contact: Contact
    body: str = Field(min_length=1, max_length=60_000)


class NoteOutput(BaseModel):
    note_id: str


class TaskInput(Input):
    """Something for somebody to do about a contact."""

    contact: Contact
    subject: str = Field(min_length=1, max_length=250)
    body: str = Field("", max_length=60_000)
    due_in: str = Field("1d", pattern=r"^[0-9]+[smhdw]$", description="How long from now: 2h, 1d")
    priority: Literal["NONE", "LOW", "MEDIUM", "HIGH"] = "NONE"
    type: Literal["TODO", "CALL", "EMAIL"] = "TODO"
    owner: Annotated[str | None, Chosen("owners")] = None


class TaskOutput(BaseModel):
    task_id: str


@hubspot.action(
    "create_note",
    title="Write a note",
    input=NoteInput,
    output=NoteOutput,
    effect=Effect.RECONCILABLE,
    scopes=[CONTACTS_READ, CONTACTS_WRITE],
    cost=2,
)
async def create_note(ctx: ActionContext, input: NoteInput) -> NoteOutput:
    """Write a note on a contact. It ends with the step's reference, by which it is found again."""
    contact = await contact_id(ctx, input.contact)
    properties = {"hs_timestamp": rfc3339(ctx.intended_at_ms), "hs_note_body": marked(ctx, input.body)}
    record = await client.create_record(ctx, "notes", properties, [(contact, _NOTE_TO_CONTACT)])
    return NoteOutput(note_id=record.id)


@create_note.lookup
async def _find_note(ctx: ActionContext, input: NoteInput) -> NoteOutput | None:
    found = await made_before(ctx, input.contact, "notes", "hs_note_body")
    return NoteOutput(note_id=found.id) if found else None


@create_note.simulate
def _pretend_note(input: NoteInput, now_ms: int) -> NoteOutput:
    return NoteOutput(note_id="1")


@create_note.describe
def _describe_note(input: NoteInput) -> str:
    return f"write a note of {len(input.body)} characters on the contact {input.contact}"


@hubspot.action(
    "create_task",
    title="Create a task",
    input=TaskInput,
    output=TaskOutput,
    effect=Effect.RECONCILABLE,
    provides="task.create",
    scopes=[CONTACTS_READ, CONTACTS_WRITE],
    cost=2,
)
async def create_task(ctx: ActionContext, input: TaskInput) -> TaskOutput:
    """Create a task about a contact. Its body ends with the step's reference, by which it is found again."""
    contact = await contact_id(ctx, input.contact)
    properties = {
        "hs_timestamp": rfc3339(ctx.intended_at_ms + parse_duration_ms(input.due_in)),
        "hs_task_subject": input.subject,
        "hs_task_body": marked(ctx, input.body).strip(),
        "hs_task_status": "NOT_STARTED",
        "hs_task_priority": input.priority,
        "hs_task_type": input.type,
        **({"hubspot_owner_id": input.owner} if input.owner else {}),
    }
    record = await client.create_record(ctx, "tasks", properties, [(contact, _TASK_TO_CONTACT)])
    return TaskOutput(task_id=record.id)


@create_task.lookup
async def _find_task(ctx: ActionContext, input: TaskInput) -> TaskOutput | None:
    found = await made_before(ctx, input.contact, "tasks", "hs_task_body")
    return TaskOutput(task_id=found.id) if found else None


@create_task.simulate
def _pretend_task(input: TaskInput, now_ms: int) -> TaskOutput:
    return TaskOutput(task_id="1")


@create_task.describe
def _describe_task(input: TaskInput) -> str:
    return f"create the task {input.subject!r} about the contact {input.contact}, due in {input.due_in}"
