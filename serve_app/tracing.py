"""Traces of requests by OpenTelemetry's SDK, sent by OTLP over HTTP; imported only where they are on.

One trace: the caller's span (`traceparent`), the HTTP request, the dispatch, and each try at a model, whose
engine gets the try's `traceparent`. Attributes follow the semantic conventions for generative AI. No text.
"""

import asyncio
import random
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import (
    Span,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from deployments.records.operation import OPERATIONS
from policies.outcome import Status as Ended
from serve_app.config import TracingSettings
from serve_app.http.errors import ApiError
from serve_app.metrics import refused_label, requested_label
from serve_app.upstream.failures import TryFailedError
from serve_app.upstream.job import Job, Result

NOT_EXPORTED: Final = "traces not exported"  # a mode of `fastserve_degraded`
_EXPORT_S: Final = 5.0  # for one batch, its repetitions included
_CONTEXT: Final = (b"traceparent", b"tracestate")


class Tracing:
    """The tracer of one ingress replica. Spans leave in a thread of the SDK's, in batches."""

    def __init__(self, settings: TracingSettings, ingress: str, degraded: Callable[[str], None]) -> None:
        """`degraded` is told each batch that the collector did not take."""
        exporter = _Counted(OTLPSpanExporter(endpoint=settings.endpoint, timeout=_EXPORT_S), degraded)
        resource = Resource.create({"service.name": "fastserve", "service.instance.id": ingress})
        self._share = settings.share
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("fastserve")
        self._propagator = TraceContextTextMapPropagator()

    def request(
        self, path: str, headers: Mapping[bytes, bytes]
    ) -> AbstractContextManager["RequestTrace | Untraced"]:
        """The span of one HTTP request, from its parsed head to the end of its answer.

        The sender of a `traceparent` decides whether its request is traced, of the others a share is.
        """
        given = {name.decode(): headers[name].decode("latin-1") for name in _CONTEXT if name in headers}
        parent = self._propagator.extract(given) if given else Context()
        caller = get_current_span(parent).get_span_context()
        if caller.trace_flags.sampled if caller.is_valid else random.random() < self._share:
            return self._traced(path, parent)
        return nullcontext(_UNTRACED if not caller.is_valid else Untraced(given))

    @contextmanager
    def _traced(self, path: str, parent: Context) -> Iterator["RequestTrace"]:
        attributes = {"http.request.method": "POST", "http.route": path}
        span = self._tracer.start_span(f"POST {path}", parent, SpanKind.SERVER, attributes)
        trace = RequestTrace(self._tracer, self._propagator, span, OPERATIONS[path].name)
        try:
            yield trace
        except ApiError as error:
            trace.refused(error.status, error.code or "")
            raise
        except asyncio.CancelledError:
            trace.refused(499, "client_left")
            raise
        except Exception:
            trace.refused(500, "internal_error")
            raise
        finally:
            span.end()

    def close(self) -> None:
        """Send what waits, and end; a collector that is away is not waited for."""
        threading.Thread(target=self._provider.shutdown, daemon=True).start()

    def flush(self) -> None:
        """Send what waits; returns when it is sent."""
        self._provider.force_flush()


class Untraced:
    """A request that is not traced: its model is told so, or vLLM would begin a trace of its own."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self.headers = headers

    async def dispatched(self, choosing: Awaitable[Job], requested: str) -> Job:
        """The choice of a model, of which nothing is kept."""
        return await choosing

    def attempt(self, model: str, replica: str, result: Result, now_s: float) -> AbstractContextManager[None]:
        """One try, of which nothing is kept."""
        return nullcontext()

    def finished(self, result: Result) -> None:
        """Nothing is kept."""


_UNTRACED: Final = Untraced({"traceparent": f"00-{1:032x}-{1:016x}-00"})


class RequestTrace:
    """The spans of one request."""

    def __init__(
        self, tracer: Tracer, propagator: TraceContextTextMapPropagator, span: Span, operation: str
    ) -> None:
        self._tracer, self._propagator, self._span, self._operation = tracer, propagator, span, operation
        self._context = set_span_in_context(span)
        self.headers: Mapping[str, str] = {}  # for the model: the context of the try that is under way

    async def dispatched(self, choosing: Awaitable[Job], requested: str) -> Job:
        """The choice of a model, waiting for capacity included."""
        span = self._tracer.start_span("dispatch", self._context)
        span.set_attribute("gen_ai.request.model", refused_label(requested))
        try:
            job = await choosing
        except ApiError as error:
            _fail(span, error.code or "")
            raise
        else:
            decided = job.dispatch.record
            asked = requested_label(requested, decided.model)
            span.set_attributes(
                {
                    "gen_ai.request.model": asked,
                    "fastserve.decision.id": job.decision_id,
                    "fastserve.model": decided.model,
                    "fastserve.policy": decided.policy,
                    "fastserve.profile": decided.profile,
                    "fastserve.propensity": decided.propensity,
                    "fastserve.candidates": sum(decided.mask) if decided.mask else 1,
                }
            )
            self._span.set_attributes(
                {
                    "gen_ai.operation.name": self._operation,
                    "gen_ai.request.model": asked,
                    "gen_ai.request.stream": job.call.stream,
                    "fastserve.decision.id": job.decision_id,
                    "fastserve.key": job.key.name,
                }
            )
            return job
        finally:
            span.end()

    @contextmanager
    def attempt(self, model: str, replica: str, result: Result, now_s: float) -> Iterator[None]:
        """One try at a model's replica. `now_s` is the loop's time, as those of `result` are."""
        attributes = {
            "gen_ai.operation.name": self._operation,
            "gen_ai.provider.name": "fastserve",
            "gen_ai.request.model": model,
            "fastserve.replica": replica,
        }
        span = self._tracer.start_span(
            f"{self._operation} {model}", self._context, SpanKind.CLIENT, attributes
        )
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, set_span_in_context(span))
        self.headers = carrier
        try:
            yield
        except (TryFailedError, ApiError) as error:
            _fail(span, error.code or "")
            raise
        except asyncio.CancelledError:
            _fail(span, "client_left")
            raise
        else:
            _answered(span, model, result, now_s)
        finally:
            span.end()

    def finished(self, result: Result) -> None:
        """What the whole request came to."""
        _answered(self._span, result.model, result, None)
        if result.http_status:
            self._span.set_attribute("http.response.status_code", result.http_status)

    def refused(self, status: int, code: str) -> None:
        """It was answered with an error, or its caller left."""
        self._span.set_attribute("http.response.status_code", status)
        self._span.set_attribute("error.type", code)
        if status >= 500:
            self._span.set_status(Status(StatusCode.ERROR))


def _answered(span: Span, model: str, result: Result, began_s: float | None) -> None:
    attributes: dict[str, Any] = {
        "gen_ai.response.model": model,
        "gen_ai.usage.input_tokens": result.prompt_tokens,
        "gen_ai.usage.output_tokens": result.output_tokens,
    }
    if began_s is not None and result.first_byte_s is not None:
        attributes["gen_ai.response.time_to_first_chunk"] = result.first_byte_s - began_s
    span.set_attributes(attributes)
    if result.status is not Ended.OK:
        _fail(span, result.error_code or result.status.value)


def _fail(span: Span, code: str) -> None:
    span.set_attribute("error.type", code)
    span.set_status(Status(StatusCode.ERROR))


class _Counted(SpanExporter):
    """Tells each batch that did not arrive."""

    def __init__(self, exporter: SpanExporter, degraded: Callable[[str], None]) -> None:
        self._exporter, self._degraded = exporter, degraded

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        if result is not SpanExportResult.SUCCESS:
            self._degraded(NOT_EXPORTED)
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)
