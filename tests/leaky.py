"""A plugin that tells its token wherever it can: in the path of its calls, in outputs and in errors."""

from __future__ import annotations

from hub import ActionContext, RegisterConnector, Rejected, hookimpl
from hub.http import ConnectionHttp
from tests import parcel
from tests.parcel import Label

leaky = parcel.make(base_url=lambda fields: f"https://api.parcel.example/bot{fields['token']}")


async def _tells(ctx: ActionContext, input: Label) -> Label:
    """Tell the token."""
    http = vars(ctx.http)["http"]
    assert isinstance(http, ConnectionHttp)
    token = http.credentials["token"]
    if input.to == "error":
        raise Rejected(f"the token {token} is no good")
    if input.to == "call":
        await ctx.http.request("PUT", f"/labels?key={token}", json={})
    return Label(to=f"it is {token}")


parcel.add_action(leaky, _tells)


@hookimpl
def hub_register_connectors(register: RegisterConnector) -> None:
    register(leaky)
