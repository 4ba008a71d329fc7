"""Connections and apps: found in `finding`, used for calls in `using`, changed in `changing`; one class is all three.

Beside them `authorising` is what a person does in the browser, and `tokens` what is exchanged with the vendor.
"""

from hub.connections.accounts import App, Connection
from hub.connections.changing import Connections, Removed
from hub.connections.fields import app_fields, auth_of, kind_of
from hub.connections.using import SecretHint

__all__ = ["App", "Connection", "Connections", "Removed", "SecretHint", "app_fields", "auth_of", "kind_of"]
