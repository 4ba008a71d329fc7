"""What the documentation shows works: the tutorial's connector in its own tests and in a hub, and every recipe in it."""

from __future__ import annotations

import hmac
import importlib
import json
import os
import shlex
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import pytest
from typer.testing import CliRunner

import hub
from hub.api.app import make_app
from hub.api.serving import answering
from hub.cli import app
from hub.clock import Clock
from hub.connector import InboundRequest
from hub.errors import SignatureError, StaleError
from hub.http import Answer
from hub.playing import rehearsal_settings
from hub.plugins import load_plugins
from hub.process import Hub, open_hub, sandboxes, working
from hub.rehearsal import run_test_file
from hub.store import views
from hub.testing.sandbox import Sandbox
from tests.conftest import examples_of_shop_and_phone
from tools import check_docs, error_catalogue

TUTORIAL = check_docs.ROOT / "docs" / "connectors.md"
RECIPES = check_docs.ROOT / "docs" / "recipes.md"
LINES_PROMISED = 60


@pytest.fixture
def tutorial(tmp_path: Path) -> Path:
    """The tutorial's files, as a reader would have them."""
    for block in check_docs.read(TUTORIAL).blocks:
        language, _, name = block.info.partition(" ")
        if language in {"python", "toml", "json"} and name:
            file = tmp_path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.text, encoding="utf-8")
    return tmp_path


@pytest.fixture
def postbird(tutorial: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The tutorial's plugin, imported."""
    monkeypatch.syspath_prepend(str(tutorial))
    yield importlib.import_module("hub_postbird")
    for name in [name for name in sys.modules if name.partition(".")[0] == "hub_postbird"]:
        del sys.modules[name]


def test_the_tutorial_s_connector_is_as_short_as_promised(tutorial: Path) -> None:
    written = [line for line in (tutorial / "hub_postbird" / "__init__.py").read_text().splitlines() if line.strip()]
    assert len(written) < LINES_PROMISED


def test_the_tutorial_s_package_installs_and_its_own_tests_pass(tutorial: Path, tmp_path: Path) -> None:
    # given its package, installed
    environment = _installed(tutorial, tmp_path / "site")

    # when
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", str(tutorial / "tests")]
    done = _run_there(command, tutorial, environment)

    # then the contract was asked, and the test of its own
    assert "20 passed" in done.stdout


def test_what_the_tutorial_says_to_type_tries_its_action(tutorial: Path, tmp_path: Path) -> None:
    # given
    environment = _installed(tutorial, tmp_path / "site") | {"HUB_DATA_DIR": str(tmp_path / "data")}
    lines = [line for b in check_docs.read(TUTORIAL).blocks if b.info == "sh" for line in b.text.splitlines()]
    [connect] = [line for line in lines if line.startswith("hub connections add postbird list")]
    [call] = [line for line in lines if "hub plugins try postbird" in line]
    hub = f"{sys.executable} -c 'from hub.cli import main; main()'"

    # when
    for typed in ("hub db upgrade", connect):
        _run_there(["bash", "-c", typed.replace("hub ", f"{hub} ", 1)], tutorial, environment)
    done = _run_there(["bash", "-c", call.replace("| hub ", f"| {hub} ") + " --json"], tutorial, environment)

    # then
    tried = json.loads(done.stdout)
    assert (tried["then"], tried["answer"]["email"]) == ("done", "jane@example.com")
    assert tried["calls"] == [{"method": "PUT", "path": "/v1/members", "status": 200}]


def _installed(package: Path, there: Path) -> dict[str, str]:
    """An environment in which a package is installed."""
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target", str(there)]
    _run_there([*pip, str(package)], package, dict(os.environ))
    return {**os.environ, "PYTHONPATH": str(there)}


def _run_there(command: list[str], where: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@asynccontextmanager
async def hub_with(plugin: ModuleType) -> AsyncIterator[tuple[Hub, Sandbox]]:
    """A hub at work behind its real API, with the plugin's sandbox and one connection to it."""
    plugins, clock = load_plugins(extra=[plugin]), Clock()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with sandboxes(plugins, clock, host="127.0.0.1", port=0) as server:
            address = f"http://127.0.0.1:{listener.getsockname()[1]}"
            settings = rehearsal_settings().model_copy(update={"sandbox_url": server.url, "public_url": address})
            async with open_hub(settings, plugins=plugins, clock=clock) as hub, working(hub):
                await hub.connections.add("postbird", "list", {"account": "my-list"}, sandbox=True)
                async with answering(make_app(hub), listener):
                    yield hub, server.sandboxes["postbird"]


async def test_the_tutorial_s_connector_and_recipe_run_in_a_hub(postbird: ModuleType) -> None:
    # given
    [recipe] = [b.text for b in check_docs.read(TUTORIAL).blocks if b.text.startswith("recipe:")]
    async with hub_with(postbird) as (hub, sandbox):
        await hub.library.apply(recipe, publish=True)
        connection = await hub.connections.by_name("list")
        address = hub.connections.inbound_url(connection)

        # when
        joined = {"account": "my-list", "id": "j-1", "email": "jane@example.com"}
        answers = [await cast("Any", sandbox).joined(address, **joined) for _ in range(2)]
        await hub.time.advance(hub.clock.now_ms(), ring=hub.ring)

        # then
        assert answers == [200, 200]
        assert [(e.operation, e.data["email"]) for e in sandbox.log] == [("put_member", "jane@example.com")]
        async with hub.store.read() as c:
            [event] = await views.list_events(c)
            assert (event["type"], event["duplicates"]) == ("postbird.member_joined", 1)


async def test_the_recipe_test_shown_passes(tmp_path: Path) -> None:
    # given
    [shown] = [b.text for b in check_docs.read(RECIPES).blocks if b.info == "yaml test"]
    shutil.copytree(check_docs.ROOT / "recipes", tmp_path, dirs_exist_ok=True)
    file = tmp_path / "shown.test.yaml"
    file.write_text(shown, encoding="utf-8")

    # when
    report = await run_test_file(file, load_plugins())

    # then
    assert report.passed, report


def test_the_commands_shown_for_recipes_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # given what a reader has: a shop and a phone, the examples for them, the events shown, and somebody known
    page = check_docs.read(RECIPES)
    examples_of_shop_and_phone(tmp_path / "recipes")
    [events] = [block.text for block in page.blocks if block.info == "json events.jsonl"]
    (tmp_path / "events.jsonl").write_text(events, encoding="utf-8")
    monkeypatch.setenv("HUB_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    for line in (
        "hub db upgrade",
        "hub connections add shopify my-shop --set shop=my-shop.myshopify.com --sandbox",
        f"hub connections add twilio my-phone --set account_sid=AC{'0' * 32} --sandbox",
        "hub recipes apply recipes --publish",
    ):
        _run(line)
    with closing(sqlite3.connect(tmp_path / "data" / "hub.db")) as database, database:
        database.execute("insert into contact (id, tags, attributes, created_at) values ('ada', '[]', '{}', 0)")
        database.execute("insert into identity values ('email', 'ada@example.com', 'ada', 0)")
        database.execute("insert into identity values ('phone', '+14155550100', 'ada', 0)")

    # when every line of the page's programs is run, then it works
    shown = [line for block in page.blocks if block.info == "sh" for line in block.text.splitlines()]
    for line in shown:
        _run(line)
    assert {line.split()[2] for line in shown} == {"new", "show", "test", "plan", "preview", "simulate"}

    # and the events shown decide as the page says
    assert "ended by shopify.order_paid" in _run("hub recipes simulate abandoned-cart-sms --events events.jsonl")


def _run(line: str) -> str:
    program, *words = shlex.split(line)
    assert program == "hub"
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, f"{line}: {result.output}"
    return result.stdout


def test_the_webhook_that_is_shown_recognises_its_vendor_and_nobody_else() -> None:
    # given
    [shown] = [b.text for b in check_docs.read(TUTORIAL).blocks if "class PostbirdWebhook" in b.text]
    names: dict[str, Any] = {}
    exec(shown, names)
    webhook, body = names["PostbirdWebhook"](), b'{"id": "1"}'
    signature = hmac.new(b"new", b"1000." + body, "sha256").hexdigest()

    def call(headers: dict[str, str], body: bytes = body, now_s: int = 1100) -> None:
        request = InboundRequest("POST", "https://hub.example.com/webhooks/postbird/k", headers, body, now_s * 1000)
        webhook.verify(request, {"signing_secret": "new", "signing_secret_before": "old"})

    # when it is right, then it is believed
    good = {"x-postbird-signature": f"t=1000,v1={signature}"}
    call(good)
    # and changed, forged, old or unsigned it is not
    for headers, given, at in (
        (good, b"{}", 1100),
        ({**good, "x-postbird-signature": f"t=1001,v1={signature}"}, body, 1100),
    ):
        with pytest.raises(SignatureError):
            call(headers, given, at)
    for wrong in ({}, {"x-postbird-signature": "nonsense"}, {"x-postbird-signature": "t=1000,v1=é"}):
        with pytest.raises(SignatureError):
            call(wrong)
    with pytest.raises(StaleError):
        call(good, now_s=1301)


def test_each_declaration_that_is_shown_can_be_added_to_the_tutorial_s_connector(postbird: ModuleType) -> None:
    # given the connector, and every name that an author may import
    names = {name: getattr(hub, name) for name in hub.__all__} | vars(postbird)
    for module in ("collections.abc", "contextlib", "datetime", "typing", "pydantic"):
        names |= vars(importlib.import_module(module)) | {"Field": hub.Field}
    shown = [b.text for b in check_docs.read(TUTORIAL).blocks if b.info == "python"]

    # when
    for text in shown:
        exec(text, names)

    # then
    made = postbird.postbird
    assert (list(made.polls), list(made.histories), list(made.choices)) == (
        ["member_joined"],
        ["member_joined"],
        ["lists"],
    )
    note, input_ = made.actions["add_note"], names["Note"](email="jane@example.com", text="called")
    assert (note.lookup_, note.rehearse(input_, 0).note_id) == (names["find_note"], "n-rehearsed")
    archived = Answer(409, {}, b'{"error": "archived"}')
    assert (names["classify"](archived).code, names["classify"](Answer(200, {}, b"{}"))) == ("archived", None)


def test_what_the_documentation_says_is_true() -> None:
    assert check_docs.problems() == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[there](nowhere.md)", "leads nowhere"),
        ("[there](#not-here)\n# Here", "names a heading"),
        ("run `hub recipes frobnicate`", "no command `hub recipes frobnicate`"),
        ("run `hub up --fast`", "`hub up` has no option --fast"),
        ("```sh\nhub dance\n```", "no command `hub dance`"),
        ("`GET /api/v1/nothing`", "no path /api/v1/nothing"),
        ("```sh\nmake coffee\n```", "no target coffee"),
        ("run `make tset ARGS=x`", "no target tset"),
        ("set `HUB_COLOUR`", "no setting HUB_COLOUR"),
        ("see `hub/nothing.py`", "no file hub/nothing.py"),
        ("see `test_nothing_at_all`", "no test test_nothing_at_all"),
        ("```yaml steps\n- wiat: 1h\n```", "did you mean wait?"),
        ("```yaml conditions\n{trigger.totl: exists}\n```", "did you mean total?"),
        ("```yaml purposes\ncart: {class: marketting}\n```", "did you mean marketing?"),
        ("```yaml test\ncases: []\n```", "recipes"),
    ],
)
def test_what_is_not_true_is_found(text: str, said: str, tmp_path: Path) -> None:
    # given
    file = tmp_path / "page.md"
    file.write_text(text + "\n", encoding="utf-8")
    page = check_docs.read(file)

    # when
    found = [what for check in check_docs.CHECKS for _, _, what in check(page)]

    # then
    assert len(found) == 1
    assert said in found[0]


def test_every_message_says_what_to_do_and_is_in_the_catalogue() -> None:
    found = error_catalogue.messages()
    assert {message.section for message in found} == set(error_catalogue.SECTIONS)
    assert [message.text for message in found if not message.mend.strip()] == []
    page = (check_docs.ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    assert "there is no app … of … | did you mean …?; `hub apps list` shows what there is" in page
    assert all(f"| `{name}` |" in page for name in error_catalogue.error_classes())


def test_every_kind_of_error_says_what_to_do() -> None:
    silent = [name for name, error in error_catalogue.error_classes().items() if not error_catalogue.said(error)[1]]
    assert silent == []


def test_code_of_no_section_that_tells_people_of_errors_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "novel.py").write_text("raise ConfigError(f'{x} is wrong here; mend it')\n")
    monkeypatch.setattr(error_catalogue, "ROOT", tmp_path)
    with pytest.raises(SystemExit, match=r"hub/novel\.py"):
        error_catalogue.messages()


def test_a_plugin_without_its_checklist_is_found(tmp_path: Path) -> None:
    # given
    file = tmp_path / "plugins" / "postbird" / "README.md"
    file.parent.mkdir(parents=True)
    points = [f"| {point} | done |" for point in check_docs.CHECKLIST if point not in {"consent", "dedupe"}]
    file.write_text("\n".join(["| | |", "|---|---|", *points, "| consent | exempt |"]), encoding="utf-8")

    # when
    found = [what for _, _, what in check_docs.missing_checklist(check_docs.read(file))]

    # then
    assert [what.split(" for ")[1] for what in found] == ["dedupe", "consent"]
