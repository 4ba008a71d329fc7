"""One trace from a delivery to its effects, whoever goes on with it; and nobody's name in a span."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any

import pytest
from aiohttp import web
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from hub.errors import ConfigError
from hub.process import make_traces, open_hub, working
from hub.traces import Traces
from hub.tracing import SdkMaker
from tests.integration.test_runs import ADA, HOUR, REMINDER, TWO_NOTES, _cart


def _traced() -> tuple[Traces, InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    return Traces(SdkMaker(SimpleSpanProcessor(exporter), "test")), exporter


def _named(spans: Sequence[ReadableSpan], name: str) -> list[ReadableSpan]:
    return [span for span in spans if span.name == name]


def _above(span: ReadableSpan, spans: Sequence[ReadableSpan]) -> str | None:
    """The name of the span that a span hangs on."""
    if span.parent is None:
        return None
    return next(other.name for other in spans if other.context.span_id == span.parent.span_id)


async def test_one_trace_leads_from_the_delivery_to_the_effects(running: Callable[..., Any], database_url: str) -> None:
    # Given a hub that is traced, and a vendor that refuses the second call
    traces, exporter = _traced()
    async with running(database_url, traces=traces) as it:
        await it.publish(TWO_NOTES)

        # When a delivery leads to two effects
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await it.rest()
        [run] = await it.runs()
    spans = exporter.get_finished_spans()

    # Then they are one trace, named by the event's id, each span under the one that caused it
    named = blake2b(run["trigger"]["event_id"].encode(), digest_size=16).digest()
    assert {span.context.trace_id for span in spans} == {int.from_bytes(named, "big")}
    assert sorted((span.name, _above(span, spans)) for span in spans) == [
        ("advance", "run"),
        ("call", "advance"),
        ("call", "advance"),
        ("delivery", None),
        ("route", "delivery"),
        ("run", "delivery"),
    ]
    call = _named(spans, "call")[0]
    assert dict(call.attributes or {}) == {
        "hub.action": "acme.put_note",
        "hub.connector": "acme",
        "hub.connection": "acme",
        "hub.step": run["effects"][0]["step"],
        "hub.attempt": 1,
        "hub.what": "action",
        "hub.outcome": "done",
    }


async def test_what_failed_says_how_and_nothing_of_the_person(running: Callable[..., Any], sqlite_url: str) -> None:
    traces, exporter = _traced()
    async with running(sqlite_url, traces=traces) as it:
        await it.publish(TWO_NOTES)
        it.sandbox.status["/notes"] = 400
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await it.rest()
    [call] = _named(exporter.get_finished_spans(), "call")
    assert (call.attributes or {})["hub.outcome"] == "rejected"
    assert (call.attributes or {})["http.response.status_code"] == 400
    assert not call.status.is_ok
    told = " ".join(span.to_json() for span in exporter.get_finished_spans())
    for secret in ("ada@example.com", "4155550100", "Ada", "http://", "Bearer"):
        assert secret not in told


async def test_another_process_goes_on_with_the_trace_and_no_span_lasts_as_long_as_a_wait(
    running: Callable[..., Any], database_url: str
) -> None:
    # Given one process that takes deliveries, and another that works
    door, at_the_door = _traced()
    worker, at_work = _traced()
    async with (
        running(database_url, work=False, traces=door) as it,
        open_hub(it.settings, plugins=it.hub.plugins, clock=it.hub.clock, traces=worker) as other,
        working(other),
    ):
        await it.publish(REMINDER)
        await it.deliver("carted", _cart())

        # When a run waits for a day between its steps
        await it.advance(25 * HOUR)
        [run] = await it.runs()
    taken, worked = at_the_door.get_finished_spans(), at_work.get_finished_spans()

    # Then both tell the same trace, and the run's spans hang together by the run's first
    assert [span.name for span in taken] == ["delivery"]
    assert {span.context.trace_id for span in (*taken, *worked)} == {taken[0].context.trace_id}
    [began] = _named(worked, "run")
    assert began.parent is not None
    assert began.parent.span_id == taken[0].context.span_id
    advances = _named(worked, "advance")
    assert len(advances) >= 2
    assert {span.parent.span_id for span in advances if span.parent} == {began.context.span_id}
    assert {(span.attributes or {})["hub.run_id"] for span in advances} == {run["id"]}
    assert max(span.end_time - span.start_time for span in (*taken, *worked)) < 60e9


async def test_vendors_are_not_told_of_the_trace(
    running: Callable[..., Any], sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a sandbox that notes which headers reach it
    traces, exporter = _traced()
    async with running(sqlite_url, traces=traces) as it:
        reached: list[set[str]] = []
        before = it.sandbox._account

        def account(request: web.Request) -> str | None:
            reached.append({name.lower() for name in request.headers})
            return before(request)

        monkeypatch.setattr(it.sandbox, "_account", account)

        # When it is called
        await it.publish(TWO_NOTES)
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await it.rest()

    # Then nothing of the trace is among them
    assert len(_named(exporter.get_finished_spans(), "call")) == 2
    assert reached
    assert all(not names & {"traceparent", "tracestate", "baggage"} for names in reached)


async def test_every_process_samples_the_same_traces(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given two processes that shall keep half of all traces
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.5")
    (door, at_the_door), (worker, at_work) = _traced(), _traced()

    # When each makes its part of many
    for n in range(200):
        door.delivered([f"event-{n}"], 0)
        with worker.advance(f"event-{n}", f"run-{n}"):
            pass

    # Then both keep the same half
    kept = [{span.context.trace_id for span in spans.get_finished_spans()} for spans in (at_the_door, at_work)]
    assert kept[0] == kept[1]
    assert 50 < len(kept[0]) < 150


async def test_without_anybody_asking_there_are_no_spans() -> None:
    assert not make_traces({}).on
    assert not make_traces({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318", "OTEL_SDK_DISABLED": "true"}).on
    assert not make_traces({"OTEL_TRACES_EXPORTER": "none"}).on
    with Traces().advance("event", "run") as span:
        assert not span.is_recording()


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "choose otlp, console or none"),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "http/protobuf"),
    ],
)
async def test_an_exporter_that_there_is_not_is_said(environment: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        make_traces(environment)


async def test_spans_arrive_where_the_standard_variables_say(
    running: Callable[..., Any], sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a collector
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    received: list[str] = []

    async def collect(request: web.Request) -> web.Response:
        told = ExportTraceServiceRequest()
        told.ParseFromString(await request.read())
        received.extend(span.name for r in told.resource_spans for s in r.scope_spans for span in s.spans)
        return web.Response()

    app = web.Application()
    app.router.add_post("/v1/traces", collect)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")

    # When a hub that was started with its address has worked and ends
    async with running(sqlite_url, traces=make_traces(os.environ)) as it:
        await it.publish(TWO_NOTES)
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await it.rest()
    await runner.cleanup()

    # Then it has everything
    assert sorted(received) == ["advance", "call", "call", "delivery", "route", "run"]
