"""Every error that crosses a module, grouped by what happens next.

    HubError
      ConfigError                 someone must edit something
        RecipeError               ... a recipe: file, line, path inside it, nearest right name
        PluginError               ... a plugin: its name and the mend
        ConnectionConfigError     ... a connection: a missing or malformed field
        StoreError                ... the database: missing, behind, read-only
        NewerRelease              ... which release runs: a recipe uses what this one does not know
        NotThere                  ... a name or an id: there is nothing of it
          NoSuchConnection        ... a connection's
          NoSuchConnector         ... a connector's
          NoSuchApp               ... an app's
      IngressError                refuse the call; the edge turns these into 4xx
        SignatureError            the caller is not who they say
        StaleError                signed, but too old
        PayloadError              signed, but not readable
      HookFailed                  a plugin that takes part raised, or did not come back in time
      StoreUnavailable            the database cannot be reached or written; try again
      ConnectorError              a vendor call failed
        RetryableError            again later, after `retry_after_s` if given
          RateLimited             the vendor said: slower
          VendorUnavailable       the vendor is down or overloaded; nothing was done
          NotSent                 the request never left: connect, DNS or TLS failed
        OutcomeUnknown            the request began, no whole answer came back
        PermanentError            again would not help
          AuthExpired             the credentials no longer work
          Rejected                the vendor refused the input
          NotFound                the thing does not exist at the vendor
          AddressRefused          its name leads to where no call may go; nothing was sent
      SkipStep                    not a failure: nothing was done and nothing should be

The first paragraph of a class docstring says what happened and what to do next; it is the default message.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hub.events import ConsentSignal


class HubError(Exception):
    """Something went wrong in the hub. The message says what; `hub --debug …` shows where."""

    def __init__(self, message: str | None = None) -> None:
        doc = (type(self).__doc__ or "").strip().split("\n\n")[0]
        super().__init__(message or " ".join(doc.split()))


class ConfigError(HubError):
    """Something is configured wrongly. Edit it and try again."""


class NewerRelease(ConfigError):
    """A newer release of the hub wrote this. It is left to the processes that run that release; upgrade this one."""


class NotThere(ConfigError):
    """There is nothing with this name or id. List what there is and try again."""


class RecipeError(ConfigError):
    """A recipe is wrong. Correct the place named and validate again.

    `file` and `line` (1-based) say where in the file, `path` where in the recipe (`steps/2/then/0/with/body`).
    """

    def __init__(self, message: str, *, file: str | None = None, line: int | None = None, path: str = "") -> None:
        self.reason = message
        self.file, self.line, self.path = file, line, path
        where = f"{file or 'recipe'}{f', line {line}' if line else ''}{f', at {path}' if path else ''}"
        super().__init__(f"{where}: {message}")


class RecipeErrors(ConfigError):
    """Several places of a recipe are wrong. Correct each and validate again."""

    def __init__(self, errors: Sequence[RecipeError]) -> None:
        self.errors = tuple(errors)
        super().__init__("\n".join(str(error) for error in errors))


class PluginError(ConfigError):
    """A plugin cannot be used. Mend or uninstall it."""

    def __init__(self, plugin: str, message: str) -> None:
        self.plugin = plugin
        super().__init__(f"plugin {plugin}: {message}")


class ConnectionConfigError(ConfigError):
    """A connection lacks a field or has a malformed one. Add it again with the field corrected."""


class NoSuchConnection(ConnectionConfigError, NotThere):
    """There is no connection of this name. List what there is and try again."""


class NoSuchConnector(ConnectionConfigError, NotThere):
    """There is no connector of this name. List what is installed and try again."""


class NoSuchApp(ConnectionConfigError, NotThere):
    """There is no app of this name. List what there is and try again."""


class StoreError(ConfigError):
    """The database cannot be used as it is. Run `hub db status` to see why."""


class HookFailed(HubError):
    """A plugin's hook failed. Mend the plugin, or uninstall it."""

    def __init__(self, plugin: str, hook: str, why: str) -> None:
        self.plugin, self.hook = plugin, hook
        super().__init__(f"the plugin {plugin} failed in {hook}: {why}")


class StoreUnavailable(HubError):
    """The database cannot be reached or written right now. Nothing was stored; try again."""


class IngressError(HubError):
    """The call was refused. `hub deliveries --refused` says why and how often."""


class SignatureError(IngressError):
    """The signature is missing or does not match. Check the webhook secret of the connection."""


class StaleError(IngressError):
    """The call is signed, but older than the vendor's calls may be. Check the clocks."""


class PayloadError(IngressError):
    """The call is signed, but its body cannot be read. It is kept as it came; see `hub deliveries`."""


class ConnectorError(HubError):
    """A vendor call failed. `hub runs show ID` says what the vendor answered."""

    def __init__(
        self,
        message: str | None = None,
        *,
        connector: str | None = None,
        connection_id: str | None = None,
        status: int | None = None,
        code: str | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.connector, self.connection_id = connector, connection_id
        self.status, self.code, self.request_id = status, code, request_id


class RetryableError(ConnectorError):
    """The vendor could not do it now. The hub tries again by itself."""

    def __init__(
        self,
        message: str | None = None,
        *,
        retry_after_s: float | None = None,
        connector: str | None = None,
        connection_id: str | None = None,
        status: int | None = None,
        code: str | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(
            message,
            connector=connector,
            connection_id=connection_id,
            status=status,
            code=code,
            request_id=request_id,
        )
        self.retry_after_s = retry_after_s


class RateLimited(RetryableError):
    """The vendor asked for fewer calls; nothing was done. The hub waits as long as it asked and tries again."""


class VendorUnavailable(RetryableError):
    """The vendor is down or overloaded. The hub tries again by itself."""


class NotSent(RetryableError):
    """The request never left: no connection could be made. The hub tries again by itself."""


class LeaseOver(NotSent):
    """The request never left: this process may no longer hold the work that it was for. Whoever holds it goes on."""


class OutcomeUnknown(ConnectorError):
    """The request was sent and no whole answer came back: it may have been done. The effect class decides what follows."""


class PermanentError(ConnectorError):
    """The vendor refused it and would refuse it again. Mend what it names, then `hub runs retry`."""


class AuthExpired(PermanentError):
    """The credentials no longer work. Give new ones: `hub connections reauthorise NAME`."""


class Rejected(PermanentError):
    """The vendor refused the input. Correct the recipe or the contact's data."""


class NotFound(PermanentError):
    """The thing does not exist at the vendor. Correct the id in the recipe, or make the thing there."""


class AddressRefused(PermanentError):
    """The name leads to an address that is not public. Nothing was sent; allow it by HUB_PRIVATE_HOSTS if it is meant."""


class SkipStep(HubError):
    """Not a failure: nothing was done at the vendor and nothing should be. The recipe may test the reason.

    `reason` is one of the words a recipe may test (`no_consent`, `already_done`); `signals` go to the consent ledger.
    """

    def __init__(self, reason: str, message: str | None = None, *, signals: Sequence[ConsentSignal] = ()) -> None:
        super().__init__(message or reason)
        self.reason, self.signals = reason, tuple(signals)
