"""OpenTelemetry spans from a delivery to its effects, across processes and waits, without a word stored for it.

The ids of a trace, and of the spans that others hang on, are made out of the event's and the run's own ids: every process
knows them. When nobody traces, a span costs a comparison. What makes and sends spans is in `hub.tracing`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from hashlib import blake2b
from typing import Protocol

from opentelemetry.context import Context
from opentelemetry.trace import (
    INVALID_SPAN,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    TraceFlags,
    Tracer,
    set_span_in_context,
)

_OFF = nullcontext(INVALID_SPAN)


class Maker(Protocol):
    """What makes spans."""

    tracer: Tracer

    def next_ids(self, trace_id: int, span_id: int) -> None:
        """The span that is started next gets these ids (its trace's only if it is the first of it)."""

    def samples(self, trace_id: int) -> bool:
        """Whether this trace is wanted: the same answer in every process."""

    def close(self) -> None:
        """Hand over what was not handed over yet, within seconds."""


class Traces:
    """The spans of one process; without a maker there are none."""

    def __init__(self, maker: Maker | None = None) -> None:
        self._maker = maker

    @property
    def on(self) -> bool:
        """Whether anybody wants spans."""
        return self._maker is not None

    def delivered(self, event_ids: Iterable[str], began_ns: int, **about: str) -> None:
        """The first span of each event's trace: from the call's arrival until it was stored."""
        for event_id in event_ids:
            self._past("delivery", event_id, _number(event_id, 8), began_ns, Context(), {"event_id": event_id, **about})

    def routed(self, event_id: str, began_ns: int, **about: str) -> None:
        """An event was sorted into the runs that it starts, answers and ends."""
        self._past("route", event_id, 0, began_ns, self._below(event_id, event_id), {"event_id": event_id, **about})

    def started(self, event_id: str, run_id: str, **about: str) -> None:
        """A run was started: the span that all of its others hang on, also those after a wait of days."""
        at = self._below(event_id, event_id)
        self._past("run", event_id, _number(run_id, 8), time.time_ns(), at, {"run_id": run_id, **about})

    def advance(self, event_id: str, run_id: str, **about: str) -> AbstractContextManager[Span]:
        """A run is in hand, until it rests or ends. One that no event started has a trace of its own."""
        if self._maker is None:
            return _OFF
        at = self._below(event_id or run_id, run_id)
        attributes = _named({"run_id": run_id, **about})
        # Letting go of a run is an exception in the code and no failure; what it says may repeat what vendors were sent.
        return self._maker.tracer.start_as_current_span(
            "advance", at, attributes=attributes, record_exception=False, set_status_on_exception=False
        )

    def call(self, **about: str | int) -> AbstractContextManager[Span]:
        """An action is run, as part of the span that is open."""
        if self._maker is None:
            return _OFF
        return self._maker.tracer.start_as_current_span(
            "call",
            kind=SpanKind.CLIENT,
            attributes=_named(about),
            record_exception=False,
            set_status_on_exception=False,
        )

    def close(self) -> None:
        """Hand over what was not handed over yet. Waits, so it is not for the loop."""
        if self._maker is not None:
            self._maker.close()

    def _past(
        self, name: str, trace: str, span_id: int, began_ns: int, at: Context | None, about: dict[str, str]
    ) -> None:
        """A span that ends now."""
        if self._maker is None:
            return
        if span_id:
            self._maker.next_ids(_number(trace, 16), span_id)
        self._maker.tracer.start_span(name, at, attributes=_named(about), start_time=began_ns).end()

    def _below(self, trace: str, parent: str) -> Context | None:
        """Under the span of `parent` in the trace of `trace`, which another process may have made."""
        if self._maker is None:
            return None
        trace_id = _number(trace, 16)
        flags = TraceFlags(TraceFlags.SAMPLED if self._maker.samples(trace_id) else TraceFlags.DEFAULT)
        above = SpanContext(trace_id, _number(parent, 8), is_remote=True, trace_flags=flags)
        return set_span_in_context(NonRecordingSpan(above), Context())


def _number(about: str, size: int) -> int:
    return int.from_bytes(blake2b(about.encode(), digest_size=size).digest(), "big")


def _named(about: dict[str, str] | dict[str, str | int]) -> dict[str, str | int]:
    return {f"hub.{name}": value for name, value in about.items()}
