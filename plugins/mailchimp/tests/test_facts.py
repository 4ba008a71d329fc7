"""Every request that the connectors make is one that the vendor's own description allows."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from hub import ActionContext, ChoiceQuery, Connector, Identity, Rejected, RetryableError, SkipStep
from hub_mailchimp import mailchimp, mandrill
from hub_mailchimp.sandbox.marketing import DEFAULT_LIST, MailchimpSandbox
from hub_mailchimp.sandbox.transactional import MandrillSandbox
from hub_mailchimp.transactional.actions import FOUND_WITHIN_MS

from . import test_contract as contract
from .conftest import ContextMaker, Listener, facts, problems
from .test_contract import ADA, CART

FULL: dict[str, Mapping[str, Any]] = {
    "upsert_member": {
        **ADA,
        "merge_fields": {"FNAME": "Ada", "AGE": 36, "ADDRESS": {"addr1": "Via Roma 1", "city": "Torino"}},
        "interests": {"9143cf3bd1": True},
        "language": "en",
        "status_if_new": "pending",
    },
    "add_event": {**ADA, "name": "bought", "properties": {"a": "b"}, "occurred_at": "2026-11-20T10:15:30Z"},
    "send_campaign": {
        "list_id": DEFAULT_LIST,
        "segment_id": 9000,
        "subject": "News",
        "preview": "And more",
        "from_name": "Team",
        "reply_to": "team@example.test",
        "template_id": 7,
        "sections": {"main": "Hi"},
    },
    "upsert_cart": {**CART, "cart_id": "A-78", "checkout_url": "https://shop.example.test/", "first_name": "Ada"},
    "upsert_order": {
        **CART,
        "order_id": "O-78",
        "cart_id": "A-78",
        "financial_status": "paid",
        "fulfillment_status": "shipped",
        "processed_at": "2026-11-20T10:15:30Z",
        "campaign_id": "cb398d21d2",
    },
    "send_email": {
        "to": "ada@example.test",
        "to_name": "Ada",
        "from_email": "other@example.test",
        "from_name": "Other",
        "reply_to": "help@example.test",
        "subject": "Your cart",
        "html": "<p>Hi</p>",
        "text": "Hi",
        "merge_vars": {"FNAME": "Ada"},
        "merge_language": "handlebars",
        "tags": ["recipe-cart"],
        "metadata": {"shop": "1"},
        "subaccount": "one",
        "important": True,
    },
}


def test_a_request_that_the_description_does_not_allow_is_found() -> None:
    body = facts("marketing")["operations"]["put /lists/{list_id}/members/{subscriber_hash}"]["body"]
    good = {"email_address": "ada@example.test", "status_if_new": "subscribed"}
    assert problems(body, good) == []
    assert problems(body, {**good, "status_if_new": "friend"})
    assert problems(body, {**good, "colour": "red"}) == ["body.colour: unknown"]
    assert problems(body, {**good, "vip": "yes"}) == ["body.vip: 'yes' is no boolean"]
    assert problems(body, {"email_address": "ada@example.test"}) == ["body.status_if_new: missing"]


async def use(connector: Connector, ctx: ActionContext, inputs: Mapping[str, Any]) -> None:
    """Every action with its least and its fullest input, twice, every look-up, poll, history and choice.

    What the sandbox answers is not the point here: each request is held against the facts before it is made.
    """
    for name, action in connector.actions.items():
        for number, given in enumerate([inputs[name], *([FULL[name]] if name in FULL else [])]):
            own, input_ = replace(ctx, reference=f"{name}-{number}"), action.input.model_validate(given)
            for _ in range(2):
                with suppress(Rejected):
                    await action.run(own, input_)
            if action.lookup_:
                with suppress(RetryableError):
                    await action.lookup_(own, input_)
    for source in (*connector.polls.values(), *connector.histories.values()):
        async for _ in source.fetch(ctx, None, 0):
            pass
    for read in connector.choices.values():
        assert await read(ctx, ChoiceQuery(within={"list_id": DEFAULT_LIST}))


async def test_marketing(marketing: MailchimpSandbox, mail: ContextMaker, listener: Listener) -> None:
    await contract.TestMailchimp().prepare(marketing)
    account = marketing.account("acme")
    account.templates.append({"id": 7, "name": "Cart", "type": "user"})
    account.lists[DEFAULT_LIST].segment("vip")
    async with mail({"account": "acme", "member_poll": "all"}) as ctx:
        await use(mailchimp, ctx, contract.TestMailchimp.inputs)
        assert mailchimp.whoami
        await mailchimp.whoami(ctx)
        assert mailchimp.forget_
        await mailchimp.forget_(ctx, Identity(email="bob@example.test"))
        assert mailchimp.subscriptions
        [audience] = await mailchimp.subscriptions.wanted(ctx, ["subscribe"])
        made = await mailchimp.subscriptions.create(ctx, audience, listener.address)
        await mailchimp.subscriptions.list(ctx)
        await mailchimp.subscriptions.delete(ctx, made)
        cart = await _one_cart(ctx)
        confirm = mailchimp.triggers["cart_abandoned"].confirm_
        assert confirm
        await confirm(ctx, cart)
        assert ctx.http.used == set(facts("marketing")["operations"])  # type: ignore[attr-defined]


async def _one_cart(ctx: ActionContext) -> Any:
    async for page in mailchimp.polls["cart_updated"].fetch(ctx, None, 0):
        for item in page.items:
            return item
    raise AssertionError("there is no cart")


async def test_transactional(transactional: MandrillSandbox, single: ContextMaker, listener: Listener) -> None:
    contract.TestMandrill().prepare(transactional)
    async with single() as ctx:
        # The search for everything is made only when it is too late for anything to be on its way.
        await use(mandrill, replace(ctx, now_ms=ctx.now_ms + FOUND_WITHIN_MS), contract.TestMandrill.inputs)
        transactional.refuse["left@example.test"] = "unsub"
        with suppress(SkipStep):
            refused = {**contract.TestMandrill.inputs["send_email"], "to": "left@example.test", "subaccount": "one"}
            action = mandrill.actions["send_email"]
            await action.run(ctx, action.input.model_validate(refused))
        assert mandrill.whoami
        await mandrill.whoami(ctx)
        assert mandrill.subscriptions
        [topic] = await mandrill.subscriptions.wanted(ctx, ["messages"])
        made = await mandrill.subscriptions.create(ctx, topic, listener.address)
        await mandrill.subscriptions.delete(ctx, made)
        assert ctx.http.used == set(facts("transactional")["operations"])  # type: ignore[attr-defined]


def test_every_file_of_facts_names_its_source() -> None:
    for name in ("marketing", "transactional", "signatures"):
        assert {"from", "version", "date", "sha256", "by"} <= set(facts(name)["source"])
