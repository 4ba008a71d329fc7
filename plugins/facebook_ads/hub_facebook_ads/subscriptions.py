"""Which of a Page's happenings Meta tells our app of.

Meta has two layers. The app's own subscription says where to call, once for all of its Pages, and takes the app's own token
instead of the connection's: a person makes it in the App Dashboard. The Page's says of what: that one is kept here.
"""

from __future__ import annotations

from collections.abc import Sequence

from hub import ActionContext, Rejected, Subscription, Subscriptions
from hub_facebook_ads.client import Done, Node, call, edge

_ELSEWHERE = "app:"


class _SubscribedApp(Node):
    """An app that is told of a Page; without fields in the answer it counts as one that is told of nothing."""

    subscribed_fields: tuple[str, ...] = ()


class PageSubscriptions(Subscriptions):
    """The fields that a Page is subscribed to for an app: `POST /{page}/subscribed_apps` with a Page's token.

    Meta knows no address here; those of the connection's own app stand for the connection's address, others for another.
    """

    async def wanted(self, ctx: ActionContext, topics: Sequence[str]) -> Sequence[str]:
        """The same for a Page whose app is known; none where a person subscribes by hand, or there is no Page."""
        return topics if ctx.settings.get("page_id") and ctx.settings.get("app_id") else ()

    async def list(self, ctx: ActionContext) -> Sequence[Subscription]:
        if not ctx.settings.get("page_id"):
            return []
        own = ctx.settings.get("app_id")
        return [
            Subscription(
                id=f"{app.id}:{field}",
                topic=field,
                address=ctx.callback_url if app.id == own else f"{_ELSEWHERE}{app.id}",
            )
            for app in await self._apps(ctx)
            for field in app.subscribed_fields
        ]

    async def create(self, ctx: ActionContext, topic: str, address: str) -> Subscription:
        # The list may replace the one before (Meta does not say), so that it names what is there, too.
        fields = sorted({topic, *await self._own_fields(ctx)})
        await self._subscribe(ctx, fields)
        return Subscription(id=f"{ctx.settings.get('app_id')}:{topic}", topic=topic, address=address)

    async def delete(self, ctx: ActionContext, subscription: Subscription) -> None:
        if subscription.address.startswith(_ELSEWHERE):
            raise Rejected("this subscription is another app's, which a Page's token cannot take back")
        fields = await self._own_fields(ctx)
        if subscription.topic not in fields:
            return
        # Taken back as a whole first: a shorter list alone might add to what is there.
        await call(ctx, "DELETE", f"/{self._page(ctx)}/subscribed_apps", Done)
        if left := [field for field in fields if field != subscription.topic]:
            await self._subscribe(ctx, left)

    async def _subscribe(self, ctx: ActionContext, fields: Sequence[str]) -> None:
        params = {"subscribed_fields": ",".join(fields)}
        await call(ctx, "POST", f"/{self._page(ctx)}/subscribed_apps", Done, params=params)

    async def _own_fields(self, ctx: ActionContext) -> Sequence[str]:
        own = ctx.settings.get("app_id")
        return [field for app in await self._apps(ctx) if app.id == own for field in app.subscribed_fields]

    async def _apps(self, ctx: ActionContext) -> Sequence[_SubscribedApp]:
        path = f"/{self._page(ctx)}/subscribed_apps"
        return [app async for page, _ in edge(ctx, path, _SubscribedApp, params={}) for app in page]

    def _page(self, ctx: ActionContext) -> str:
        return ctx.settings["page_id"]
