"""Where an effect and the sandbox's record of it name the same thing: by it each effect is found in the vendor's own log."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from hub.events import Json
from hub.testing.sandbox import Received

_Fields = Mapping[str, Json]


@dataclass(frozen=True)
class Proof:
    """How one action is proven.

    `of_effect` takes the effect's input and output and returns what was done, or None where nothing was to be done;
    `of_log` returns the same of everything that an entry of the sandbox says was done by this action, one call for many
    included, and nothing of an entry that is another action's.
    """

    of_effect: Callable[[_Fields, _Fields], str | None]
    of_log: Callable[[Received], Iterable[str]]


def _by(operation: str, ours: str, theirs: str) -> Proof:
    """An action whose output names in `ours` what the log's `operation` names in `theirs`."""
    return Proof(
        lambda input_, output: str(output[ours]),
        lambda entry: [str(entry.data[theirs])] if entry.operation == operation else [],
    )


def _audience(operation: str) -> Proof:
    """People in one call are told apart by the hash of their address, made here from the address itself."""

    def of_effect(input_: _Fields, output: _Fields) -> str | None:
        if output["overtaken"]:
            return None
        return f"{output['audience_id']} {hashlib.sha256(str(input_['email']).encode()).hexdigest()}"

    def of_log(entry: Received) -> Iterable[str]:
        if entry.operation != operation:
            return []
        return [f"{entry.data['audience']} {cell}" for row in entry.data["rows"] for key, cell in row if key == "EMAIL"]

    return Proof(of_effect, of_log)


def _property(name: str, ours: Callable[[_Fields], str]) -> Proof:
    """A property of a CRM contact that was set; `ours` is its value in the action's output."""

    def of_log(entry: Received) -> Iterable[str]:
        if entry.operation != "update_contacts" or name not in entry.data["properties"]:
            return []
        return [f"{entry.data['id']} {entry.data['properties'][name]}"]

    return Proof(lambda input_, output: ours(output), of_log)


PROOFS: Mapping[str, Proof] = {
    "twilio.send_sms": _by("send_sms", "message_id", "sid"),
    "shopify.create_discount": _by("create_discount", "code", "code"),
    "shopify.tag_customer": _by("tag_customer", "customer_id", "customer_id"),
    "mandrill.send_email": _by("send", "message_id", "id"),
    "mailchimp.upsert_member": _by("upsert_member", "email", "email_address"),
    "mailchimp.add_tags": Proof(
        lambda input_, output: f"{output['email']} {' '.join(output['tags'])}",
        lambda entry: (
            [f"{entry.data['email']} {' '.join(tag['name'] for tag in entry.data['tags'])}"]
            if entry.operation == "tag_member"
            else []
        ),
    ),
    "hubspot.upsert_contact": Proof(
        lambda input_, output: str(input_["email"]),
        lambda entry: [one["id"] for one in entry.data["inputs"]] if entry.operation == "upsert_contacts" else [],
    ),
    "hubspot.assign_owner": _property("hubspot_owner_id", lambda output: f"{output['record_id']} {output['owner_id']}"),
    "hubspot.move_lifecycle_stage": _property(
        "lifecyclestage", lambda output: f"{output['contact_id']} {output['stage']}"
    ),
    "hubspot.create_task": _by("create_tasks", "task_id", "id"),
    "facebook_ads.add_to_audience": _audience("add_users"),
    "facebook_ads.remove_from_audience": _audience("remove_users"),
}
# What sandboxes note beside effects: questions, where the hub asked to be called, who withdrew a consent.
_NO_EFFECTS = {("hubspot", "search"), ("mailchimp", "add_webhook"), ("facebook_ads", "forget_users")}


def done_at(connector: str, log: Iterable[Received]) -> Iterable[str]:
    """What a sandbox's log says was done, as `action what`; an entry that belongs to no known action is named, too."""
    proofs = {action: proof for action, proof in PROOFS.items() if action.partition(".")[0] == connector}
    for entry in log:
        found = [f"{action} {what}" for action, proof in proofs.items() for what in proof.of_log(entry)]
        if not found and (connector, entry.operation) not in _NO_EFFECTS:
            found = [f"{connector}.{entry.operation} (no known action)"]
        yield from found
