"""One call of an action, timed, counted and traced; what it was sent and what came back is nobody's business here."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry.trace import Span, StatusCode

from hub.errors import ConnectorError
from hub.metrics import Metrics, word_of
from hub.traces import Traces


@contextmanager
def call(metrics: Metrics, traces: Traces, action: str, connection: str, **about: str | int) -> Iterator[None]:
    """Around the call of an action (`acme.send_text`) on a connection."""
    connector, outcome, began = action.partition(".")[0], "done", time.monotonic()
    with traces.call(action=action, connector=connector, connection=connection, **about) as span:
        try:
            yield
        except Exception as error:
            outcome = word_of(error)
            _fail(span, error)
            raise
        finally:
            span.set_attribute("hub.outcome", outcome)
            metrics.called(connector, outcome, time.monotonic() - began)


def _fail(span: Span, error: Exception) -> None:
    span.set_status(StatusCode.ERROR)
    if isinstance(error, ConnectorError) and error.status is not None:
        span.set_attribute("http.response.status_code", error.status)
