"""Making and sending spans with OpenTelemetry's SDK, as its standard variables ask. Needs `pip install tetik-hub[otel]`."""

from __future__ import annotations

import os
from collections.abc import Mapping

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision

from hub.errors import ConfigError

_FLUSH_MS = 5_000
_SERVICE = "tetik-hub"


class _Ids(RandomIdGenerator):
    """Random ids, unless those of the next span were given."""

    def __init__(self) -> None:
        self.trace_id = self.span_id = 0

    def generate_trace_id(self) -> int:
        given, self.trace_id = self.trace_id, 0
        return given or super().generate_trace_id()

    def generate_span_id(self) -> int:
        given, self.span_id, self.trace_id = self.span_id, 0, 0
        return given or super().generate_span_id()


class SdkMaker:
    """A tracer provider of our own. Sampling and resource are as `OTEL_TRACES_SAMPLER` and `OTEL_RESOURCE_…` say."""

    def __init__(self, processor: SpanProcessor, version: str) -> None:
        self._ids = _Ids()
        named = {} if "OTEL_SERVICE_NAME" in os.environ else {SERVICE_NAME: _SERVICE}
        self._provider = TracerProvider(resource=Resource.create(named), id_generator=self._ids)
        self._provider.add_span_processor(processor)
        self.tracer = self._provider.get_tracer("hub", version)

    def next_ids(self, trace_id: int, span_id: int) -> None:
        self._ids.trace_id, self._ids.span_id = trace_id, span_id

    def samples(self, trace_id: int) -> bool:
        # What standard samplers say of a first span depends on its trace's id alone.
        found = self._provider.sampler.should_sample(Context(), trace_id, "delivery")
        return found.decision is Decision.RECORD_AND_SAMPLE

    def close(self) -> None:
        self._provider.force_flush(_FLUSH_MS)
        self._provider.shutdown()


def make(environment: Mapping[str, str], version: str) -> SdkMaker:
    """What sends spans to where the environment says. Raises ConfigError for an exporter or protocol there is not."""
    return SdkMaker(BatchSpanProcessor(_exporter(environment)), version)


def _exporter(environment: Mapping[str, str]) -> SpanExporter:
    wanted = environment.get("OTEL_TRACES_EXPORTER") or "otlp"
    if wanted == "console":
        return ConsoleSpanExporter()
    if wanted != "otlp":
        raise ConfigError(f"OTEL_TRACES_EXPORTER: there is no exporter {wanted}; choose otlp, console or none")
    protocol = environment.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environment.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    if protocol not in {None, "", "http/protobuf"}:
        raise ConfigError(
            f"OTEL_EXPORTER_OTLP_PROTOCOL: the hub speaks http/protobuf and not {protocol}; set it so, or unset it"
        )
    return OTLPSpanExporter()
