"""Writes the package of a new connector: what `hub plugins new` does. The templates are Liquid, in `templates`."""

from __future__ import annotations

import keyword
import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Literal

from liquid import Environment

from hub.errors import ConfigError
from hub.plugins import Plugins

_NAME = re.compile(r"[a-z][a-z0-9_]{1,39}")
# What would be mistaken for something of the hub's own.
_KEPT = {"hub", "contract", "event", "contact", "trigger", "steps", "actions", "triggers"}

_TEMPLATES = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    "package/__init__.py": "{package}/__init__.py",
    "package/connector.py": "{package}/connector.py",
    "package/triggers.py": "{package}/triggers.py",
    "package/actions.py": "{package}/actions.py",
    "package/sandbox.py": "{package}/sandbox.py",
    "tests/test_contract.py": "tests/test_contract.py",
    "tests/ticket_created.json": "tests/fixtures/ticket_created.json",
}
_OF_TRIGGERS = {"package/triggers.py", "tests/ticket_created.json"}

Auth = Literal["token", "client_credentials", "oauth2"]


@dataclass(frozen=True, kw_only=True)
class NewPlugin:
    """What is wanted: the connector's name, how its accounts are authorised, and how it tells of what happens."""

    name: str
    auth: Auth = "token"
    webhook: bool = True
    poll: bool = False

    @property
    def package(self) -> str:
        """The Python package."""
        return f"hub_{self.name}"

    @property
    def setting(self) -> str:
        """The field that names an account, empty where the vendor tells."""
        return {"token": "account", "client_credentials": "client_id", "oauth2": ""}[self.auth]

    @property
    def connect(self) -> str:
        """The command that connects an account in sandbox mode."""
        given = f" --set {self.setting}=main" if self.setting else ""
        return f"hub connections add {self.name} my-{self.name.replace('_', '-')}{given} --sandbox"

    def next_commands(self, folder: Path) -> list[str]:
        """What to type once it is written."""
        ticket = '{"subject": "Hello", "email": "jane@example.com"}'
        account = f"my-{self.name.replace('_', '-')}"
        return [
            f"cd {folder}",
            "pip install -e '.[test]'",
            "pytest",
            "ruff check",
            "hub up &",
            self.connect,
            f"echo '{ticket}' | hub plugins try {self.name}.create_ticket --connection {account} --input -",
        ]


def check_name(name: str, plugins: Plugins) -> None:
    """Raise ConfigError for a name that cannot be a connector's, or that is taken by a loaded plugin."""
    if not _NAME.fullmatch(name) or keyword.iskeyword(name) or name in _KEPT:
        better = re.sub(r"[^a-z0-9_]+", "_", name.lower()).strip("_0123456789")
        usable = _NAME.fullmatch(better) and not keyword.iskeyword(better) and better not in _KEPT
        raise ConfigError(
            f"{name} cannot be a connector's name: it is lower-case letters, digits and underscores, begins with a "
            f"letter, and is no word of Python or the hub{f'; {better} would do' if usable else ''}"
        )
    for info in plugins.infos:
        if name in (info.name, *info.connectors):
            raise ConfigError(f"the name {name} is taken by the plugin {info.name}; choose another, or uninstall it")
    if name in plugins.catalogue.unusable:
        raise ConfigError(
            f"the name {name} is taken by a plugin that cannot be loaded: {plugins.catalogue.unusable[name]}"
        )


def write(wanted: NewPlugin, folder: Path) -> list[Path]:
    """Write the package into a new folder; returns the files. Raises ConfigError when there is something already."""
    if folder.exists():
        raise ConfigError(f"there is {folder} already; give another folder with --dir, or remove it")
    made = []
    for path, text in _rendered(wanted).items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        made.append(file)
    return made


def _rendered(wanted: NewPlugin) -> dict[str, str]:
    words = wanted.name.split("_")
    given = {
        "name": wanted.name,
        "dash": wanted.name.replace("_", "-"),
        "package": wanted.package,
        "title": " ".join(word.capitalize() for word in words),
        "class": "".join(word.capitalize() for word in words),
        "header": "-".join(word.capitalize() for word in words),
        "auth": wanted.auth,
        "webhook": wanted.webhook,
        "poll": wanted.poll,
        "triggers": wanted.webhook or wanted.poll,
        "setting": wanted.setting,
        "account": "main" if wanted.setting else "sandbox",
        "connect": wanted.connect,
    }
    environment, folder = Environment(), files("hub.scaffold") / "templates"
    found = {f"{wanted.package}/py.typed": ""}
    for template, path in _TEMPLATES.items():
        if template not in _OF_TRIGGERS or wanted.webhook or wanted.poll:
            source = (folder / f"{template}.liquid").read_text(encoding="utf-8")
            found[path.format(package=wanted.package)] = environment.from_string(source).render(**given)
    return found
