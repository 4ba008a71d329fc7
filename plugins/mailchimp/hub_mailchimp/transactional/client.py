"""Calls of the Transactional API: every call is a POST of JSON; what its errors mean. (Swagger 1.4.1.)"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from hub import (
    Account,
    ActionContext,
    AuthExpired,
    ConnectorError,
    Json,
    NotFound,
    OutcomeUnknown,
    PermanentError,
    Rejected,
    Response,
)

M = TypeVar("M", bound=BaseModel)


class Answer(BaseModel):
    """What every model of an answer has in common: only the fields that are used, the rest ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


async def call(ctx: ActionContext, path: str, body: Mapping[str, Json] | None = None) -> Json:
    """One call; the key goes along in a header. Raises the shared status table's errors and those of `classify`."""
    return (await ctx.http.request("POST", path, json=dict(body or {}))).json()


def read(model: type[M], value: Json) -> M:
    """An answer as its model. Raises OutcomeUnknown when it is not as the API describes it."""
    return _checked(TypeAdapter(model), value)


def read_all(model: type[M], value: Json) -> list[M]:
    """An answer as a list of models. Raises OutcomeUnknown when it is not as the API describes it."""
    return _checked(TypeAdapter(list[model]), value)  # type: ignore[valid-type]  # a type that is known only here


T = TypeVar("T")


def _checked(adapter: TypeAdapter[T], value: Json) -> T:
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        fields = ", ".join(".".join(map(str, e["loc"])) for e in error.errors(include_input=False))
        # Without its cause, which repeats the answer: addresses and texts of people.
        raise OutcomeUnknown(f"Mailchimp Transactional's answer cannot be read: {fields}") from None


class _User(Answer):
    username: str = ""
    public_id: str


async def whoami(ctx: ActionContext) -> Account:
    """The account behind the key."""
    user = read(_User, await call(ctx, "/users/info"))
    return Account(user.public_id, user.username or user.public_id)


# By the error's name, whatever the status; its message is never passed on, as it may hold the person's address.
_MEANINGS: Mapping[str, tuple[type[ConnectorError], str]] = {
    "Invalid_Key": (AuthExpired, "Mailchimp Transactional does not know this API key: give a new one"),
    "ValidationError": (Rejected, "Mailchimp Transactional refused the input: correct the step or the contact's data"),
    "PaymentRequired": (PermanentError, "the account must be paid for before Mailchimp Transactional does this"),
    "Unknown_Template": (NotFound, "there is no template of this name: it takes the slug, not the title"),
    "Unknown_Subaccount": (NotFound, "there is no subaccount of this id"),
    "Unknown_Message": (NotFound, "Mailchimp Transactional has no such message"),
    "Unknown_Webhook": (NotFound, "Mailchimp Transactional has no such webhook"),
    "Invalid_Reject": (NotFound, "this address is not on the list of refused ones"),
    # It broke while working on it, so that nobody can tell whether it was done.
    "GeneralError": (OutcomeUnknown, "Mailchimp Transactional broke while working on it"),
}


def classify(response: Response) -> ConnectorError | None:
    """What an answer means; None leaves it to the shared status table."""
    if response.status < 400 or response.status == 429:
        return None
    try:
        body = response.json()
    except OutcomeUnknown:
        return None
    name = str(body.get("name", "")) if isinstance(body, dict) and body.get("status") == "error" else ""
    if name in _MEANINGS:
        kind, sentence = _MEANINGS[name]
        return kind(sentence, code=name)
    return None
