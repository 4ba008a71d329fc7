"""Finding plugins and making one catalogue of what they offer. The only place that knows pluggy's manager."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from traceback import extract_tb
from types import ModuleType
from typing import Any

import pluggy

from hub import hookspecs
from hub.catalogue import Catalogue, nearest
from hub.connector import Action, Connector, OAuth2, Trigger
from hub.errors import ConfigError, HookFailed, PluginError
from hub.guests import Guest

GROUP = "hub"
# Registering is a moment's work; so long a plugin may take for it.
REGISTER_S = 10.0
MOST_REGISTERED = 1_000
_SAY_AGAIN_S = 60.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PluginInfo:
    """One loaded plugin: its name, distribution version, and the names of what it registered."""

    name: str
    version: str
    connectors: tuple[str, ...]
    triggers: tuple[str, ...]
    actions: tuple[str, ...]


@dataclass
class Plugins:
    """The loaded plugins: pluggy's manager, the catalogue, and who brought what."""

    manager: pluggy.PluginManager
    catalogue: Catalogue
    infos: list[PluginInfo]

    guests: dict[str, Guest] = field(default_factory=dict)
    _told: dict[str, tuple[float, int]] = field(default_factory=dict)

    async def gather(self, hook: str, *, limit_s: float, **arguments: Any) -> list[Any]:
        """What each plugin answers to a taking-part hook. Raises HookFailed, the first, when one fails or is too slow."""
        answers = await self._ask(hook, limit_s, arguments)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return answers

    async def notify(self, hook: str, *, limit_s: float, **arguments: Any) -> None:
        """Call a notifying hook; a failure is logged by the plugin's name and changes nothing, also for other plugins."""
        for answer in await self._ask(hook, limit_s, arguments):
            if isinstance(answer, HookFailed):
                self._tell(answer)
            elif isinstance(answer, BaseException):
                raise answer

    async def _ask(self, hook: str, limit_s: float, arguments: Mapping[str, Any]) -> list[Any]:
        """Each plugin's answer or error, the plugin that was loaded last first. Nobody gets what another may change."""
        impls = getattr(self.manager.hook, hook).get_hookimpls()
        if not impls:
            return []
        asked = [
            self.guests.setdefault(impl.plugin_name, Guest(impl.plugin_name)).ask(
                hook, impl.function, {name: deepcopy(arguments[name]) for name in impl.argnames}, limit_s
            )
            for impl in reversed(impls)
        ]
        return await asyncio.gather(*asked, return_exceptions=True)

    def _tell(self, failed: HookFailed) -> None:
        """Log a failure, the same one once a minute: a plugin that fails at every event is none of a line each."""
        now, (at, unsaid) = time.monotonic(), self._told.get(str(failed), (float("-inf"), 0))
        if now - at < _SAY_AGAIN_S:
            self._told[str(failed)] = (at, unsaid + 1)
            return
        self._told[str(failed)] = (now, 0)
        facts = {"plugin": failed.plugin, "hook": failed.hook, "error": str(failed), "unsaid": unsaid}
        _log.error("a plugin's hook failed", exc_info=failed, extra={"what": "hook_failed", **facts})

    def close(self) -> None:
        """End the plugins' threads; one that is asked again gets a new one."""
        for guest in self.guests.values():
            guest.close()


@dataclass
class _Registry:
    """Collects what the plugins register and who registered it."""

    connectors: dict[str, Connector] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    plugin: str = ""

    def add_connector(self, connector: Connector) -> None:
        self._claim(f"connector {connector.name}")
        self._check_auth(connector)
        self.connectors[connector.name] = connector
        for trigger in connector.triggers.values():
            self._claim(f"trigger {trigger.type}")
        for action in connector.actions.values():
            self._claim(f"action {action.type}")

    def add_trigger(self, trigger: Trigger[Any], *, connector: str) -> None:
        trigger.connector = connector
        self._claim(f"trigger {trigger.type}")
        self._connector(connector).triggers[trigger.name] = trigger

    def add_action(self, action: Action[Any, Any], *, connector: str) -> None:
        action.connector = connector
        self._claim(f"action {action.type}")
        self._connector(connector).actions[action.name] = action

    def forget(self, plugin: str) -> None:
        """Take back what a plugin registered before it failed."""
        for thing in [thing for thing, owner in self.owners.items() if owner == plugin]:
            del self.owners[thing]
            kind, _, name = thing.partition(" ")
            connector, _, own = name.partition(".")
            if kind == "connector":
                self.connectors.pop(name, None)
            elif connector in self.connectors and self.owners.get(f"connector {connector}") != plugin:
                found = self.connectors[connector]
                (found.triggers if kind == "trigger" else found.actions).pop(own, None)

    def _connector(self, name: str) -> Connector:
        if name not in self.connectors:
            raise PluginError(
                self.plugin, f"there is no connector {name} to add to{nearest(name, self.connectors)}; install it first"
            )
        return self.connectors[name]

    def _claim(self, thing: str) -> None:
        if thing in self.owners:
            raise PluginError(
                self.plugin, f"the {thing} is already registered by plugin {self.owners[thing]}; rename one"
            )
        self.owners[thing] = self.plugin
        if sum(owner == self.plugin for owner in self.owners.values()) > MOST_REGISTERED:
            raise PluginError(self.plugin, f"it registers more than {MOST_REGISTERED:,} things; a plugin has a few")

    def _check_auth(self, connector: Connector) -> None:
        kinds = [kind for kind in connector.auth if isinstance(kind, OAuth2)]
        if not kinds:
            return
        if connector.whoami is None:
            raise PluginError(
                self.plugin,
                f"the connector {connector.name} is authorised in the browser and cannot tell whose account it is; give it "
                "whoami",
            )
        known = {scope for kind in kinds for scope in kind.scopes}
        declared: list[Trigger[Any] | Action[Any, Any]] = [*connector.triggers.values(), *connector.actions.values()]
        for one in declared:
            if strange := sorted(set(one.scopes) - known):
                raise PluginError(
                    self.plugin,
                    f"{one.type} needs the scope {strange[0]}, which {connector.name} never asks for"
                    f"{nearest(strange[0], known)}; add it to the scopes of its OAuth2",
                )

    def owned(self, plugin: str, kind: str) -> tuple[str, ...]:
        return tuple(sorted(t.split(" ", 1)[1] for t, o in self.owners.items() if o == plugin and t.startswith(kind)))


def load_plugins(
    *, quarantine: bool = False, extra: Sequence[ModuleType | object] = (), register_s: float = REGISTER_S
) -> Plugins:
    """Load every installed plugin, and `extra` ones given as modules or objects with a `__name__`.

    Raises ConfigError naming each plugin that cannot be used and the mend. With `quarantine` (workers, so that one broken
    plugin does not stop the others' recipes) such a plugin is left out and its reason kept in `catalogue.unusable`.
    A plugin that takes longer than `register_s` to register cannot be used.
    """
    manager = pluggy.PluginManager("hub")
    manager.add_hookspecs(hookspecs)
    problems: dict[str, PluginError] = {}
    versions: dict[str, str] = {}
    for plugin in extra:
        _admit(manager, getattr(plugin, "__name__", type(plugin).__name__), plugin, problems)
    for entry in sorted(entry_points(group=GROUP), key=lambda e: e.name):
        versions[entry.name] = entry.dist.version if entry.dist else "unknown"
        module = _import(entry, problems)
        if module is not None:
            _admit(manager, entry.name, module, problems)
    registry = _Registry()
    for hook, add in (
        ("hub_register_connectors", registry.add_connector),
        ("hub_register_triggers", registry.add_trigger),
        ("hub_register_actions", registry.add_action),
    ):
        _register(manager, hook, add, registry, problems, register_s)
    for name in problems:
        if manager.has_plugin(name):
            manager.unregister(name=name)
    if problems and not quarantine:
        raise ConfigError("\n".join(str(problem) for problem in problems.values()))
    for name, problem in problems.items():
        _log.error("a plugin is left out", extra={"what": "plugin_quarantined", "plugin": name, "reason": str(problem)})
    infos = [
        PluginInfo(
            name,
            versions.get(name, "unpackaged"),
            registry.owned(name, "connector"),
            registry.owned(name, "trigger"),
            registry.owned(name, "action"),
        )
        for name in sorted(n for n, _ in manager.list_name_plugin() if n not in problems)
    ]
    unusable = {name: str(problem) for name, problem in problems.items()}
    return Plugins(manager, Catalogue(registry.connectors, unusable), infos)


def _import(entry: EntryPoint, problems: dict[str, PluginError]) -> object | None:
    try:
        return entry.load()  # type: ignore[no-any-return]  # entry points are untyped
    except Exception as error:  # a plugin's import may raise anything; it is reported by name
        problems[entry.name] = PluginError(
            entry.name,
            f"it fails to import ({type(error).__name__}: {error}{_where(error, entry)}); mend it or uninstall {_dist(entry)}",
        )
        return None


def _where(error: Exception, entry: EntryPoint) -> str:
    """The line of the plugin's own that an import ended at."""
    package = entry.module.partition(".")[0]
    own = [frame for frame in extract_tb(error.__traceback__) if package in Path(frame.filename).with_suffix("").parts]
    return f", at {own[-1].filename}:{own[-1].lineno}" if own else ""


def _dist(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist else entry.value


def _admit(manager: pluggy.PluginManager, name: str, plugin: object, problems: dict[str, PluginError]) -> None:
    """Register one plugin and check its hooks' names and arguments against the specs."""
    known = [n for n in vars(hookspecs) if n.startswith("hub_")]
    try:
        if wrong := _explain(plugin, known):
            raise ValueError(wrong)
        manager.register(plugin, name=name)
        manager.check_pending()
    except (pluggy.PluginValidationError, ValueError) as error:
        if manager.has_plugin(name):
            manager.unregister(name=name)
        problems[name] = PluginError(name, str(error))


def _explain(plugin: object, known: Sequence[str]) -> str | None:
    """What is wrong with a plugin's hooks, in words that mend it."""
    for name, function in inspect.getmembers(plugin, callable):
        if not hasattr(function, "hub_impl"):
            continue
        if any(function.hub_impl.get(kind) for kind in ("wrapper", "hookwrapper")):
            return f"{name} is a wrapper around other plugins, which a hook cannot be; make it a plain one"
        if name not in known:
            return f"there is no hook {name}{nearest(name, known)}; the hooks are {', '.join(known)}"
        allowed = inspect.signature(getattr(hookspecs, name)).parameters
        wrong = [p for p in inspect.signature(function).parameters if p not in allowed and p != "self"]
        if wrong:
            return f"{name} has no argument {wrong[0]}{nearest(wrong[0], allowed)}; it may take {', '.join(allowed)}"
    return None


def _register(
    manager: pluggy.PluginManager,
    hook: str,
    add: Callable[..., None],
    registry: _Registry,
    problems: dict[str, PluginError],
    limit_s: float,
) -> None:
    """Call one registering hook plugin by plugin, so that whoever fails is known by name."""
    for name, plugin in sorted(manager.list_name_plugin(), key=lambda pair: pair[0]):
        function = getattr(plugin, hook, None)
        if function is None or not hasattr(function, "hub_impl") or name in problems:
            continue
        registry.plugin = name
        error = _registering(hook, function, add, limit_s)
        if error is None:
            continue
        registry.forget(name)
        # A plugin may raise anything; it is reported by name.
        words = str(error) if isinstance(error, TimeoutError) else f"{type(error).__name__}: {error}"
        problems[name] = (
            error
            if isinstance(error, PluginError)
            else PluginError(name, f"{hook} failed ({words}); mend it or uninstall it")
        )


def _registering(
    hook: str, function: Callable[..., object], add: Callable[..., None], limit_s: float
) -> BaseException | None:
    """Call a registering hook in a thread, for it may hang; what went wrong, or None. Afterwards it cannot register."""
    problem: list[BaseException] = []
    over = threading.Event()

    def register(*given: Any, **named: Any) -> None:
        if over.is_set():
            raise RuntimeError("the time for registering is over")
        add(*given, **named)

    def run() -> None:
        try:
            function(**({"register": register} if "register" in inspect.signature(function).parameters else {}))
        except BaseException as error:  # whatever it is, it goes to whoever loads the plugins
            problem.append(error)

    thread = threading.Thread(target=run, name=f"{hook}", daemon=True)
    thread.start()
    thread.join(limit_s)
    over.set()
    if thread.is_alive():
        return TimeoutError(f"it did not come back within {limit_s:g} s")
    return problem[0] if problem else None
