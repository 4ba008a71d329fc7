"""Customers: found, paged, made, tagged, and what they agreed to. What changes is told to subscribers."""

from __future__ import annotations

from hub.clock import parse_time_ms
from hub.events import Json
from hub_shopify.sandbox.ids import plain
from hub_shopify.sandbox.resolvers.parts import Asked, Resolver, Term, UserError, amount, found, page, person, unknown
from hub_shopify.sandbox.shop import Fields

_SORTED_BY = {"CREATED_AT": "created_at", "UPDATED_AT": "updated_at"}
_SETTABLE = ("SUBSCRIBED", "UNSUBSCRIBED", "PENDING")


def _customers(asked: Asked) -> Json:
    listed = [one for one in asked.shop.customers.values() if str(one["id"]) in asked.shop.signed_up]
    hits = found(asked, listed, _meets)
    key = _SORTED_BY.get(asked.args.get("sortKey", ""), "created_at")
    return page([person(one) for one in sorted(hits, key=lambda c: parse_time_ms(c[key]))], asked.args)


def _meets(customer: Fields, term: Term) -> bool:
    if term.field in {"email", "phone", "id", "first_name", "last_name"}:
        return term.holds(customer.get(term.field))
    raise unknown("customers", term)


def _customer(asked: Asked) -> Json:
    return person(asked.shop.customers.get(plain(asked.args["id"])))


def _customer_by(asked: Asked) -> Json:
    identifier = asked.args["identifier"]
    known = asked.shop.known(
        id=plain(identifier["id"]) if identifier.get("id") else None,
        email=identifier.get("emailAddress"),
        phone=identifier.get("phoneNumber"),
    )
    if known is None:
        return None
    theirs = [o for o in asked.shop.orders.values() if (o.get("customer") or {}).get("id") == known["id"]]
    spent = sum(float(order["total_price"]) for order in theirs)
    # Counts are texts in the API's JSON.
    return person(known) | {"numberOfOrders": str(len(theirs)), "amountSpent": amount(asked.shop, spent)}


def _set_customer(asked: Asked) -> Json:
    shop, identifier, wanted = asked.shop, asked.args["identifier"], asked.args["input"]
    by = next(iter(identifier))
    if by == "id" and "id" in wanted:
        raise UserError(["input", "id"], "The id field is not allowed if identifier is provided.", "ID_NOT_ALLOWED")
    if by != "id" and by not in wanted:
        raise UserError(
            ["input", by],
            f"The input field corresponding to the identifier {by} is required.",
            "MISSING_FIELD_REQUIRED",
        )
    if by != "id" and wanted[by] != identifier[by]:
        raise UserError(["input", by], "The identifier value does not match the input.", "INPUT_MISMATCH")
    known = shop.known(**{by: plain(identifier[by]) if by == "id" else identifier[by]})
    if by == "id" and known is None:
        raise UserError(["identifier", "id"], "Resource matching the identifier was not found.", "NOT_FOUND")
    for unique in ("email", "phone"):
        other = shop.known(**{unique: wanted.get(unique)})
        if other is not None and other is not known:
            raise UserError(["input", unique], f"{unique.title()} has already been taken", "TAKEN")
    names = {"email": "email", "phone": "phone", "firstName": "first_name", "lastName": "last_name", "note": "note"}
    fields: Fields = {ours: wanted[name] for name, ours in names.items() if name in wanted}
    if "tags" in wanted:  # replaced whole, as Shopify does
        fields["tags"] = ", ".join(wanted["tags"])
    if known is None:
        fields = {"email": None, "first_name": None, "last_name": None} | fields
    customer = shop.customer(fields | ({"id": known["id"]} if known else {}), asked.now)
    shop.signed_up.add(str(customer["id"]))
    shop.tell("customers/update" if known else "customers/create", customer)
    asked.record("set_customer", shop.domain, **wanted)
    return {"customer": person(customer)}


def _tagged(asked: Asked) -> tuple[Fields, list[str], list[str]]:
    """What is to be tagged, its tags, and those that are given. As Shopify does: a comma splits."""
    whose = asked.args["id"]
    kept = asked.shop.orders if "/Order/" in whose else asked.shop.customers
    what = kept.get(plain(whose))
    if what is None:
        raise UserError(["id"], f"{'Order' if '/Order/' in whose else 'Customer'} does not exist")
    given = [tag.strip() for text in asked.args["tags"] for tag in text.split(",")]
    return what, [tag.strip() for tag in (what.get("tags") or "").split(",") if tag.strip()], given


def _add_tags(asked: Asked) -> Json:
    what, had, given = _tagged(asked)
    # A tag that is there stays once.
    _change_tags(asked, what, [*had, *given], "added", [tag for tag in given if tag not in had])
    _record_tags(asked, "tag")
    return {"node": {"id": asked.args["id"]}}


def _remove_tags(asked: Asked) -> Json:
    what, had, given = _tagged(asked)
    _change_tags(asked, what, [t for t in had if t not in given], "removed", [t for t in given if t in had])
    _record_tags(asked, "untag")
    return {"node": {"id": asked.args["id"]}}


def _change_tags(asked: Asked, what: Fields, tags: list[str], how: str, changed: list[str]) -> None:
    what |= {"tags": ", ".join(dict.fromkeys(tags)), "updated_at": asked.now}
    if changed and "/Customer/" in asked.args["id"]:
        told = {"customerId": asked.args["id"], "tags": changed, "occurredAt": asked.now}
        asked.shop.tell(f"customer.tags_{how}", told)


def _record_tags(asked: Asked, how: str) -> None:
    kind = "order" if "/Order/" in asked.args["id"] else "customer"
    told = {f"{kind}_id": plain(asked.args["id"]), "tags": asked.args["tags"]}
    asked.record(f"{how}_{kind}", asked.shop.domain, **told)


def _email_consent(asked: Asked) -> Json:
    consent = asked.args["input"]["emailMarketingConsent"]
    customer = _consented(asked, consent, "emailMarketingConsent", "email")
    customer["email_marketing_consent"] = told = _known_as(consent)
    body = {"customer_id": customer["id"], "email_address": customer["email"], "email_marketing_consent": told}
    asked.shop.tell("customers_email_marketing_consent/update", body)
    asked.record("set_email_consent", asked.shop.domain, **asked.args["input"])
    return {"customer": person(customer)}


def _sms_consent(asked: Asked) -> Json:
    consent = asked.args["input"]["smsMarketingConsent"]
    customer = _consented(asked, consent, "smsMarketingConsent", "phone")
    customer["sms_marketing_consent"] = told = _known_as(consent) | {"consent_collected_from": "OTHER"}
    body = {"id": customer["id"], "phone": customer["phone"], "sms_marketing_consent": told}
    asked.shop.tell("customers_marketing_consent/update", body)
    asked.record("set_sms_consent", asked.shop.domain, **asked.args["input"])
    return {"customer": person(customer)}


def _consented(asked: Asked, consent: Fields, at: str, address: str) -> Fields:
    customer = asked.shop.customers.get(plain(asked.args["input"]["customerId"]))
    if customer is None:
        raise UserError(["input", "customerId"], "Customer not found", "INVALID")
    if not customer.get(address):
        raise UserError(["input", at], f"The customer needs a unique {address}", "INVALID")
    if consent["marketingState"] not in _SETTABLE:
        raise UserError(["input", at, "marketingState"], "cannot be set to this state", "INVALID")
    customer["updated_at"] = asked.now
    return customer


def _known_as(consent: Fields) -> Fields:
    return {
        "state": consent["marketingState"].lower(),
        "opt_in_level": (consent.get("marketingOptInLevel") or "").lower() or None,
        "consent_updated_at": consent.get("consentUpdatedAt"),
    }


QUERIES: dict[str, Resolver] = {
    "customers": _customers,
    "customer": _customer,
    "customerByIdentifier": _customer_by,
}
MUTATIONS: dict[str, Resolver] = {
    "customerSet": _set_customer,
    "tagsAdd": _add_tags,
    "tagsRemove": _remove_tags,
    "customerEmailMarketingConsentUpdate": _email_consent,
    "customerSmsMarketingConsentUpdate": _sms_consent,
}
