"""The names that plugin authors may import; everything else in `hub` is internal."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hub.clock import parse_duration_ms
    from hub.connector import (
        Account,
        ActionContext,
        ApiVersions,
        Batch,
        Choice,
        ChoicePage,
        ChoiceQuery,
        Chosen,
        ClientCredentials,
        Concurrency,
        Connector,
        Credential,
        Delivery,
        Effect,
        Field,
        Hmac,
        InboundRequest,
        Message,
        OAuth2,
        Page,
        Privacy,
        Rate,
        Reply,
        Response,
        StaticToken,
        Subscription,
        Subscriptions,
        Throttle,
        Webhook,
        same,
        secrets_in,
    )
    from hub.errors import (
        AuthExpired,
        ConnectorError,
        NotFound,
        NotSent,
        OutcomeUnknown,
        PayloadError,
        PermanentError,
        RateLimited,
        Rejected,
        RetryableError,
        SignatureError,
        SkipStep,
        StaleError,
        VendorUnavailable,
    )
    from hub.events import ConsentSignal, ConsentState, Event, Identity, Json, Money, e164
    from hub.hookspecs import RegisterAction, RegisterConnector, RegisterTrigger, Veto, hookimpl

__version__ = "0.1.0"

__all__ = [
    "Account",
    "ActionContext",
    "ApiVersions",
    "AuthExpired",
    "Batch",
    "Choice",
    "ChoicePage",
    "ChoiceQuery",
    "Chosen",
    "ClientCredentials",
    "Concurrency",
    "Connector",
    "ConnectorError",
    "ConsentSignal",
    "ConsentState",
    "Credential",
    "Delivery",
    "Effect",
    "Event",
    "Field",
    "Hmac",
    "Identity",
    "InboundRequest",
    "Json",
    "Message",
    "Money",
    "NotFound",
    "NotSent",
    "OAuth2",
    "OutcomeUnknown",
    "Page",
    "PayloadError",
    "PermanentError",
    "Privacy",
    "Rate",
    "RateLimited",
    "RegisterAction",
    "RegisterConnector",
    "RegisterTrigger",
    "Rejected",
    "Reply",
    "Response",
    "RetryableError",
    "SignatureError",
    "SkipStep",
    "StaleError",
    "StaticToken",
    "Subscription",
    "Subscriptions",
    "Throttle",
    "VendorUnavailable",
    "Veto",
    "Webhook",
    "e164",
    "hookimpl",
    "parse_duration_ms",
    "same",
    "secrets_in",
]

if not TYPE_CHECKING:  # a checker that saw this would take any name for one of ours

    def __getattr__(name: str) -> object:
        """Import a name when it is first used: `hub --help` and the like need none of them and should not wait."""
        if name in __all__:
            for module in ("clock", "connector", "errors", "events", "hookspecs"):
                found = vars(import_module(f"hub.{module}")).get(name)
                if found is not None:
                    globals()[name] = found
                    return found
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
