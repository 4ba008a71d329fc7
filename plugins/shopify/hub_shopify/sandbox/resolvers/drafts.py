"""Draft orders and their invoices."""

from __future__ import annotations

from hub.events import Json
from hub_shopify.sandbox.ids import gid, plain
from hub_shopify.sandbox.resolvers.parts import Asked, Resolver, Term, UserError, found, money, page, unknown
from hub_shopify.sandbox.shop import Fields


def _drafts(asked: Asked) -> Json:
    hits = found(asked, asked.shop.drafts.values(), _meets)
    return page([_node(asked, draft) for draft in hits], asked.args)


def _meets(draft: Fields, term: Term) -> bool:
    if term.field == "tag":
        return any(term.holds(tag) for tag in draft["tags"])
    raise unknown("draft orders", term)


def _draft(asked: Asked) -> Json:
    draft = asked.shop.drafts.get(plain(asked.args["id"]))
    return _node(asked, draft) if draft else None


def _node(asked: Asked, draft: Fields) -> Json:
    return {
        "id": gid("DraftOrder", draft["id"]),
        "name": draft["name"],
        "tags": draft["tags"],
        "invoiceUrl": f"https://{asked.shop.domain}/invoices/{draft['id']}",
        "invoiceSentAt": draft["invoice_sent_at"],
        "totalPriceSet": money(asked.shop, draft["total"]),
    }


def _create_draft(asked: Asked) -> Json:
    shop, wanted = asked.shop, asked.args["input"]
    if not wanted.get("lineItems"):
        raise UserError(["lineItems"], "Add at least 1 product")
    total = 0.0
    for n, line in enumerate(wanted["lineItems"]):
        variant = shop.variants.get(plain(line.get("variantId")))
        if line.get("variantId") and variant is None:
            raise UserError(["lineItems", str(n), "variantId"], "Product variant is no longer available")
        price = variant["price"] if variant else line["originalUnitPriceWithCurrency"]["amount"]
        total += float(price) * line["quantity"]
    if any(len(tag) > 40 for tag in wanted.get("tags") or ()):
        raise UserError(["tags"], "Tags are too long")
    new = str(shop.next_id())
    shop.drafts[new] = draft = {
        "id": new,
        "name": f"#D{1 + len(shop.drafts)}",
        "tags": wanted.get("tags") or [],
        "email": wanted.get("email"),
        "total": total,
        "invoice_sent_at": None,
        "updated_at": asked.now,
    }
    asked.record("create_draft", shop.domain, **wanted)
    return {"draftOrder": _node(asked, draft)}


def _send_invoice(asked: Asked) -> Json:
    draft = asked.shop.drafts.get(plain(asked.args["id"]))
    if draft is None:
        raise UserError(["id"], "Draft order not found")
    email = asked.args.get("email") or {}
    if not (email.get("to") or draft["email"]):
        raise UserError(["email", "to"], "To can't be blank")
    draft["invoice_sent_at"] = asked.now
    asked.record("send_invoice", asked.shop.domain, draft_order_id=draft["id"], **email)
    return {"draftOrder": _node(asked, draft)}


QUERIES: dict[str, Resolver] = {"draftOrders": _drafts, "draftOrder": _draft}
MUTATIONS: dict[str, Resolver] = {"draftOrderCreate": _create_draft, "draftOrderInvoiceSend": _send_invoice}
