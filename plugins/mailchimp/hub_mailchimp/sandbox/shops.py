"""The e-commerce part of the Marketing stand-in: stores with carts and orders."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from hub_mailchimp.sandbox.problems import Handle, Refused, required
from hub_mailchimp.sandbox.state import Account, Row, Store, iso, page

if TYPE_CHECKING:
    from hub_mailchimp.sandbox.marketing import MailchimpSandbox

_REQUIRED = ("id", "customer", "currency_code", "order_total", "lines")
_LINE = ("id", "product_id", "product_variant_id", "quantity", "price")


class Shops:
    """Carts and orders, which differ in their names alone, of all accounts of a sandbox."""

    def __init__(self, sandbox: MailchimpSandbox) -> None:
        self._sandbox = sandbox

    def routes(self, api: str) -> list[tuple[str, str, Handle]]:
        """Method, path and handler of each."""
        kind = f"{api}/ecommerce/stores/{{store}}/{{kind:carts|orders}}"
        return [
            ("GET", f"{api}/ecommerce/stores", self._stores),
            ("GET", kind, self._all),
            ("POST", kind, self._add),
            ("GET", f"{kind}/{{id}}", self._one),
            ("PATCH", f"{kind}/{{id}}", self._change),
            ("DELETE", f"{kind}/{{id}}", self._delete),
        ]

    def _kept(self, request: web.Request, account: Account) -> tuple[Store, dict[str, Row]]:
        store = account.stores.get(request.match_info["store"])
        if store is None:
            raise Refused(404, "Resource Not Found", "The requested resource could not be found.")
        return store, store.carts if request.match_info["kind"] == "carts" else store.orders

    def _found(self, request: web.Request, account: Account) -> Row:
        found = self._kept(request, account)[1].get(request.match_info["id"])
        if found is None:
            raise Refused(404, "Resource Not Found", "The requested resource could not be found.")
        return found

    async def _stores(self, request: web.Request, account: Account) -> web.Response:
        rows = [
            {"id": s.id, "list_id": s.list_id, "name": s.id, "currency_code": "EUR"} for s in account.stores.values()
        ]
        return web.json_response(page("stores", rows, request.query))

    async def _all(self, request: web.Request, account: Account) -> web.Response:
        store, kept = self._kept(request, account)
        customer = request.query.get("customer_id")
        rows = [row for row in kept.values() if customer in (None, row["customer"]["id"])]
        return web.json_response(page(request.match_info["kind"], rows, request.query, store_id=store.id))

    async def _one(self, request: web.Request, account: Account) -> web.Response:
        return web.json_response(self._found(request, account))

    async def _add(self, request: web.Request, account: Account) -> web.Response:
        body, (store, kept) = await request.json(), self._kept(request, account)
        required(body, *_REQUIRED)
        required(body["customer"], "id", "email_address", "opt_in_status")
        for line in body["lines"]:
            required(line, *_LINE)
            if store.products is not None and line["product_id"] not in store.products:
                raise Refused(
                    400, "Bad Request", f"A product with the provided ID does not exist: {line['product_id']}"
                )
        if body["id"] in kept:
            raise Refused(400, "Bad Request", f"Something with the provided ID already exists: {body['id']}")
        now = iso(self._sandbox.clock.now_ms())
        kept[body["id"]] = row = {**body, "created_at": now, "updated_at": now}
        self._record(request, account, row)
        return web.json_response(row)

    async def _change(self, request: web.Request, account: Account) -> web.Response:
        body, row = await request.json(), self._found(request, account)
        if "id" in body or {"id", "email_address"} & set(body.get("customer") or {}):
            raise Refused(400, "Bad Request", "Schema describes object, with no such property", "id")
        lines = [{"id": str(n), **line} for n, line in enumerate(body.pop("lines", row["lines"]))]
        row["customer"] |= body.pop("customer", {})
        row.update(body, lines=lines, updated_at=iso(self._sandbox.clock.now_ms()))
        self._record(request, account, row)
        return web.json_response(row)

    async def _delete(self, request: web.Request, account: Account) -> web.Response:
        row = self._found(request, account)
        del self._kept(request, account)[1][row["id"]]
        self._sandbox.record(f"delete_{request.match_info['kind']}", account.name, id=row["id"])
        return web.Response(status=204)

    def _record(self, request: web.Request, account: Account, row: Row) -> None:
        """What is there now, whether it was made or changed."""
        lines = [
            {n: line[n] for n in ("product_id", "product_variant_id", "quantity", "price")} for line in row["lines"]
        ]
        facts = {"id": row["id"], "order_total": row["order_total"], "email": row["customer"]["email_address"]}
        self._sandbox.record(f"put_{request.match_info['kind']}", account.name, **facts, lines=lines)
