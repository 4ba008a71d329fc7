"""The OpenAPI document and the API that it describes: made-up requests by the thousand, and a client out of a generator."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import negative_data_rejection, positive_data_acceptance

from tests.acceptance.processes import START_S, Process, command, distributed, environment, started
from tests.acceptance.test_embedded import ACCOUNT, CHECKOUT, RECIPES, SHOP, signed_checkout
from tests.conftest import free_port, fresh_database

# The same requests in every run and on every machine: what fails once fails always. Nothing is made smaller afterwards,
# which would ask a hub that has changed meanwhile.
STEADY = settings(
    max_examples=10,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
# For each of the two databases: a minute together.
BUDGET_S = 30.0


class Budget:
    """A stopwatch that all operations share, and that starts with the first request: each is asked once in any case."""

    def __init__(self, limit_s: float, now: Callable[[], float] = time.monotonic) -> None:
        self._limit_s, self._now = limit_s, now
        self._ends: float | None = None
        self._asked: set[str] = set()

    def allows(self, operation: str) -> bool:
        """Whether this operation may be asked: while there is time, and once in any case."""
        if self._ends is None:
            self._ends = self._now() + self._limit_s
        allowed = operation not in self._asked or self._now() < self._ends
        self._asked.add(operation)
        return allowed


@dataclass
class Served:
    """A hub that answers, and things that there are in it, by the name of the parameter that asks for them."""

    url: str
    key: str
    known: dict[str, Any]
    budget: Budget = field(default_factory=lambda: Budget(BUDGET_S))

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    def call(self, method: str, path: str, body: Any = None) -> Any:
        answer = requests.request(method, self.url + path, json=body, headers=self.headers, timeout=90)
        assert answer.status_code < 300, (method, path, answer.status_code, answer.text)
        return answer.json()


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A hub with some of everything, on either database."""
    folder, port = tmp_path_factory.mktemp("served"), free_port()
    with contextlib.ExitStack() as stack:
        if request.param == "sqlite":
            with_settings = environment(folder, port=str(port), development="true")
            processes = [Process("up", ["up"], with_settings, folder)]
        else:
            server, template, redis = map(
                request.getfixturevalue, ("postgres_server", "postgres_template", "redis_url")
            )
            database = stack.enter_context(fresh_database(server, template))
            with_settings = distributed(folder, database, redis, port, port + 1)
            processes = [
                Process("api", ["api"], with_settings, folder),
                Process("worker", ["worker"], with_settings, folder),
                Process("sandbox", ["sandbox", "--port", str(port + 1)], with_settings, folder),
            ]
        stack.enter_context(started(*processes))
        _until_ready(f"http://127.0.0.1:{port}/health/ready", processes[0])
        created = command(["api-keys", "create", "fuzz", "--scope", "write", "--json"], with_settings, folder)
        made = Served(f"http://127.0.0.1:{port}", requests.compat.json.loads(created)["key"], {})
        _fill(made)
        yield made


def _until_ready(url: str, process: Process) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        assert process.running, process.log.read_text()[-2000:]
        with contextlib.suppress(requests.ConnectionError):
            if requests.get(url, timeout=5).ok:
                return
        time.sleep(0.1)
    raise AssertionError(f"{process.name} did not become ready: {process.log.read_text()[-2000:]}")


def _fill(hub: Served) -> None:
    """Connections, a recipe, a run that waits, a pause, a cap, an app: something behind every kind of id."""
    shop = {"connector": "shopify", "name": "shop", "sandbox": True, "fields": {"shop": SHOP}}
    texts = {"account_sid": ACCOUNT, "from_number": "+14155550199"}
    added = hub.call("POST", "/api/v1/connections", shop)
    hub.call("POST", "/api/v1/connections", {"connector": "twilio", "name": "sms", "sandbox": True, "fields": texts})
    hub.call("POST", "/api/v1/purposes", {"source": (RECIPES / "purposes.yaml").read_text()})
    source = (RECIPES / "abandoned-cart-sms.yaml").read_text()
    hub.call("POST", "/api/v1/recipes", {"source": source, "publish": True})
    raw, headers = signed_checkout()
    assert requests.post(added["webhook_url"], data=raw, headers=headers, timeout=20).status_code == 200
    hub.call("POST", "/api/v1/clock/advance", {"by": "45m"})
    [run] = hub.call("GET", "/api/v1/runs")["items"]
    event = hub.call("GET", "/api/v1/events")["items"][0]
    pause = hub.call("POST", "/api/v1/pauses", {"kind": "channel", "target": "voice", "reason": "a test"})
    cap = hub.call("POST", "/api/v1/caps", {"kind": "connection", "target": "sms", "per": "day", "most": 9})
    hub.call("POST", "/api/v1/apps", {"connector": "shopify", "name": "ours", "fields": {"client_secret": "made-up"}})
    hub.known |= {
        "/apps": "ours",
        "/runs": run["id"],
        "/events": event["id"],
        "/contacts": CHECKOUT["email"],
        "/recipes": "abandoned-cart-sms",
        "/connections": "shop",
        "/pauses": pause["id"],
        "/caps": cap["id"],
    }


@pytest.fixture(scope="module")
def document(served: Served) -> Any:
    """The hub's own description of its API."""
    return schemathesis.openapi.from_url(f"{served.url}/api/v1/openapi.json")


CLIENT = """
import json, sys
from client.api_config import APIConfig
from client.models import NewConnection, Source
from client.services import connections_service, inspect_service, recipes_service

url, key, recipe = sys.argv[1:]
hub = APIConfig(base_path=url, access_token=key)
fields = {"account_sid": "AC" + "0" * 31 + "2", "from_number": "+14155550177"}
new = NewConnection(connector="twilio", name="second", fields=fields, sandbox=True, auth=None, app=None)
print(connections_service.add_connection(hub, data=new).account)
print(connections_service.remove_connection(hub, name="second").name)
with open(recipe) as file:
    source = file.read()
print(recipes_service.apply_recipe(hub, data=Source(source=source, publish=True)).state)
[run] = inspect_service.list_runs(hub, recipe="abandoned-cart-sms").items
print(json.dumps({"status": run["status"] if isinstance(run, dict) else run.status}))
"""


# Before the made-up requests, which change what there is.
def test_a_client_out_of_a_generator_connects_applies_a_recipe_and_lists_its_run(
    served: Served, tmp_path: Path
) -> None:
    described = tmp_path / "openapi.json"
    described.write_text(requests.get(f"{served.url}/api/v1/openapi.json", timeout=20).text)
    generator = Path(sys.executable).with_name("openapi-python-generator")
    subprocess.run(
        [generator, "--formatter", "none", described, tmp_path / "client"], check=True, capture_output=True, timeout=120
    )
    program = tmp_path / "program.py"
    program.write_text(CLIENT)
    done = subprocess.run(
        [sys.executable, program, served.url, served.key, RECIPES / "thank-first-order.yaml"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["AC" + "0" * 31 + "2", "second", "published", '{"status": "sleeping"}']


described = schemathesis.pytest.from_fixture("document")


@described.parametrize()
@STEADY
def test_no_request_gets_a_5xx_or_an_answer_that_the_document_does_not_know(case: Any, served: Served) -> None:
    if not served.budget.allows(f"{case.method} {case.path}"):
        return
    _ask(case, served)
    # what ids are made up for is nearly never there, so each is also asked about what is
    for name in case.path_parameters or {}:
        there = next((id_ for prefix, id_ in served.known.items() if prefix in case.path), None)
        if there is not None:
            case.path_parameters[name] = there
            _ask(case, served)


def _ask(case: Any, served: Served) -> None:
    # Whether a request that fits the document is accepted is the recipe's, the connector's or the vendor's business.
    aside = [positive_data_acceptance]
    answer = case.call(headers=served.headers)
    if answer.status_code == 413:
        # Too large to be looked at is refused before anything else that may be wrong with it.
        aside.append(negative_data_rejection)
    case.validate_response(answer, excluded_checks=aside)


def test_the_made_up_requests_are_the_same_in_every_run() -> None:
    made = schemathesis.openapi.from_dict(_DESCRIBED)
    operation = made["/things/{id}"]["POST"]

    def once() -> list[Any]:
        seen: list[Any] = []

        @STEADY
        @given(case=operation.as_strategy())
        def look(case: Any) -> None:
            seen.append((case.path_parameters, case.query, case.body))

        look()
        return seen

    first = once()
    assert len(first) > 5
    assert once() == first


def test_the_time_for_made_up_requests_is_shared_and_every_operation_is_asked() -> None:
    now = 100.0
    budget = Budget(30.0, lambda: now)
    assert [budget.allows("GET /a") for _ in range(3)] == [True] * 3
    now += 31
    assert [budget.allows(operation) for operation in ("GET /a", "GET /b", "GET /b", "GET /c")] == [
        False,
        True,
        False,
        True,
    ]


_DESCRIBED: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "Things", "version": "1"},
    "paths": {
        "/things/{id}": {
            "post": {
                "parameters": [
                    {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}},
                    {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1}},
                ],
                "requestBody": {
                    "content": {
                        "application/json": {
                            "schema": {
                                "type": "object",
                                "properties": {"name": {"type": "string"}},
                                "required": ["name"],
                            }
                        }
                    }
                },
                "responses": {"200": {"description": "done"}},
            }
        }
    },
}
