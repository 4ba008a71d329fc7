"""Which of a Page's happenings Meta tells our app of, and where it calls.

Meta has two layers. The app's own subscription says where to call, one address for all of its Pages, and takes the app's
own token. The Page's says of what. Both are kept here; an address that another tool set for the app is never replaced.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from urllib.parse import urlsplit

from pydantic import BaseModel, field_validator

from hub import ActionContext, Credential, Json, Rejected, Subscription, Subscriptions
from hub_facebook_ads.client import Done, Node, app_token, as_app, call, edge

_ELSEWHERE = "app:"
_OF_APP = "app"
_OBJECT = "page"


class _SubscribedApp(Node):
    """An app that is told of a Page; without fields in the answer it counts as one that is told of nothing."""

    subscribed_fields: tuple[str, ...] = ()


class _Callback(BaseModel):
    """Where the app is called about one kind of object. Meta switches off what failed for too long."""

    object: str
    callback_url: str = ""
    fields: tuple[str, ...] = ()
    active: bool = True

    @field_validator("fields", mode="before")
    @classmethod
    def _names(cls, given: Json) -> Json:
        # Listed as `{"name": …, "version": …}`, in older answers as texts.
        if not isinstance(given, list):
            return given
        return [one.get("name") if isinstance(one, dict) else one for one in given]


class LeadSubscriptions(Subscriptions):
    """Both layers: `leadgen` is a Page's field, `app/page/leadgen` the app's subscription to it for all of its Pages.

    Meta knows no address of a Page's; those of the connection's own app stand for the connection's address, others for
    another. The app has one address for each kind of object.
    """

    shared = True

    def is_shared(self, topic: str) -> bool:
        return _parts(topic) is not None

    async def wanted(self, ctx: ActionContext, topics: Sequence[str]) -> Sequence[str]:
        """Both for a Page whose app is known; none where a person subscribes by hand, or there is no Page."""
        if not (ctx.settings.get("page_id") and ctx.settings.get("app_id")):
            return ()
        # The app's own token is made of its secret.
        of_app = [f"{_OF_APP}/{_OBJECT}/{topic}" for topic in topics] if ctx.app_http is not None else []
        return [*topics, *of_app]

    async def list(self, ctx: ActionContext) -> Sequence[Subscription]:
        if not ctx.settings.get("page_id"):
            return []
        own = ctx.settings.get("app_id")
        of_page = [
            Subscription(
                id=f"{app.id}:{field}",
                topic=field,
                address=ctx.callback_url if app.id == own else f"{_ELSEWHERE}{app.id}",
            )
            for app in await self._apps(ctx)
            for field in app.subscribed_fields
        ]
        if ctx.app_http is None:
            return of_page
        callbacks = [one for one in await self._callbacks(ctx) if one.active]
        return [
            *of_page,
            *(_of_app(one.object, field, one.callback_url) for one in callbacks for field in one.fields),
        ]

    async def create(self, ctx: ActionContext, topic: str, address: str) -> Subscription:
        """Raises Rejected where the app is called at somebody else's address already."""
        if parts := _parts(topic):
            return await self._call_at(ctx, *parts, address)
        # The list may replace the one before (Meta does not say), so that it names what is there, too.
        fields = sorted({topic, *await self._own_fields(ctx)})
        await self._subscribe(ctx, fields)
        return Subscription(id=f"{ctx.settings.get('app_id')}:{topic}", topic=topic, address=address)

    async def delete(self, ctx: ActionContext, subscription: Subscription) -> None:
        if parts := _parts(subscription.topic):
            await self._call_no_more(ctx, *parts, subscription.address)
            return
        if subscription.address.startswith(_ELSEWHERE):
            raise Rejected("this subscription is another app's, which a Page's token cannot take back")
        fields = await self._own_fields(ctx)
        if subscription.topic not in fields:
            return
        # Taken back as a whole first: a shorter list alone might add to what is there.
        await call(ctx, "DELETE", f"/{self._page(ctx)}/subscribed_apps", Done)
        if left := [field for field in fields if field != subscription.topic]:
            await self._subscribe(ctx, left)

    # -- the app's -----------------------------------------------------------------------------------------------------

    async def _call_at(self, ctx: ActionContext, object_: str, field: str, address: str) -> Subscription:
        there = next((one for one in await self._callbacks(ctx) if one.object == object_), _Callback(object=object_))
        if there.callback_url and _key(there.callback_url) != _key(address):
            raise Rejected(
                f"Meta calls {urlsplit(there.callback_url).hostname} about the app's Pages already, and knows one address "
                "for each app. If that is this hub, put its connections under one app (`hub apps add facebook_ads`); else "
                "take that address out in the App Dashboard > Webhooks, and the hub sets its own, or use another app"
            )
        form = {
            "object": object_,
            "callback_url": address,
            # As with a Page's list: those that are there are named, too.
            "fields": ",".join(sorted({field, *there.fields})),
            "include_values": "true",
            "verify_token": Credential("verify_token"),
        }
        with app_token():
            await call(as_app(ctx), "POST", _subscriptions(ctx), Done, form=form)
        return _of_app(object_, field, address)

    async def _call_no_more(self, ctx: ActionContext, object_: str, field: str, address: str) -> None:
        callbacks = await self._callbacks(ctx)
        # There is one address: another one there is somebody else's, or has taken this one's place.
        if any((one.object, one.callback_url) == (object_, address) and field in one.fields for one in callbacks):
            with app_token():
                params = {"object": object_, "fields": field}
                await call(as_app(ctx), "DELETE", _subscriptions(ctx), Done, params=params)

    async def _callbacks(self, ctx: ActionContext) -> Sequence[_Callback]:
        with app_token():
            pages = edge(as_app(ctx), _subscriptions(ctx), _Callback, params={})
            return [one async for page, _ in pages for one in page]

    # -- the Page's ----------------------------------------------------------------------------------------------------

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


def _subscriptions(ctx: ActionContext) -> str:
    return f"/{ctx.settings['app_id']}/subscriptions"


def _parts(topic: str) -> tuple[str, str] | None:
    """Object and field of a topic of the app's; None for a Page's."""
    layer, _, rest = topic.partition("/")
    object_, slash, field = rest.partition("/")
    return (object_, field) if layer == _OF_APP and slash else None


def _of_app(object_: str, field: str, address: str) -> Subscription:
    # One object holds one address: another address there is another subscription.
    mark = hashlib.sha256(address.encode()).hexdigest()[:8]
    return Subscription(id=f"{object_}:{field}:{mark}", topic=f"{_OF_APP}/{object_}/{field}", address=address)


def _key(address: str) -> str:
    """The inbound key at the end of an address of a hub, which no other has, also under a former public URL."""
    return urlsplit(address).path.rstrip("/").rpartition("/")[2]
