"""Traces over a simulated pool, at a real OTLP collector: one trace from the caller's span to the model's."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

pytestmark = pytest.mark.asyncio(loop_scope="module")

CANARY = "canary-d41d8cd9"
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CALLER = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
Span = dict[str, Any]


class Collector:
    """Takes what OTLP's exporter posts, decoded."""

    def __init__(self) -> None:
        self.raw: list[bytes] = []
        self.status = 200
        taken = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                taken.raw.append(self.rfile.read(int(self.headers["content-length"])))
                self.send_response(taken.status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1/traces"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def spans(self) -> list[Span]:
        """All spans so far, oldest first, with plain attributes."""
        found: list[Span] = []
        for raw in self.raw:
            request = ExportTraceServiceRequest.FromString(raw)
            for resource in request.resource_spans:
                service = {one.key: one.value.string_value for one in resource.resource.attributes}
                for scope in resource.scope_spans:
                    found += [_plain(span, service) for span in scope.spans]
        return sorted(found, key=lambda span: span["began_ns"])


def _plain(span: Any, service: dict[str, str]) -> Span:
    values = {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}
    return {
        "name": span.name,
        "kind": span.kind,
        "trace": span.trace_id.hex(),
        "id": span.span_id.hex(),
        "parent": span.parent_span_id.hex(),
        "began_ns": span.start_time_unix_nano,
        "ended_ns": span.end_time_unix_nano,
        "failed": span.status.code == 2,
        "service": service,
        **values,
    }


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    made = Collector()
    yield made
    made.close()


class Heard:
    """The headers that a model's replica got, in front of its engine."""

    def __init__(self, model: Any) -> None:
        self.headers: list[dict[str, str]] = []
        self._app, model._admission.app = model._admission.app, self

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.headers.append({name.decode(): value.decode() for name, value in scope["headers"]})
        await self._app(scope, receive, send)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def heard(pool) -> AsyncIterator[Heard]:
    yield Heard(await pool.add("small", price={"prompt_usd_per_mtok": 1.0}))


def switch(pool, collector: Collector, share: float = 1.0) -> None:
    pool.ingress.reconfigure({"tracing": {"endpoint": collector.url, "share": share}})


async def collected(pool, collector: Collector) -> list[Span]:
    """What has reached the collector, once all is sent; tracing is off afterwards."""
    await asyncio.to_thread(pool.ingress._tracing.flush)
    pool.ingress.reconfigure({})
    return collector.spans


async def ask(pool, headers: dict[str, str] | None = None, **body: Any) -> Any:
    content = {"model": "auto", "messages": [{"role": "user", "content": f"Say {CANARY}"}], **body}
    return await pool.client.post("/v1/chat/completions", json=content, headers=headers or {})


async def test_one_trace_leads_from_the_caller_to_the_model(pool, heard, collector):
    switch(pool, collector, share=0.0)
    answer = await ask(pool, CALLER, stream=True, stream_options={"include_usage": True})
    assert answer.status_code == 200
    request, dispatch, model = await collected(pool, collector)
    decision = answer.headers["x-fastserve-decision-id"]
    assert [one["trace"] for one in (request, dispatch, model)] == [TRACE] * 3
    assert (request["parent"], dispatch["parent"], model["parent"]) == (PARENT, request["id"], request["id"])
    assert [one["name"] for one in (request, dispatch, model)] == [
        "POST /v1/chat/completions",
        "dispatch",
        "chat small",
    ]
    assert (request["kind"], dispatch["kind"], model["kind"]) == (2, 1, 3)
    assert heard.headers[-1]["traceparent"] == f"00-{TRACE}-{model['id']}-01"
    assert request["service"]["service.name"] == "fastserve"
    assert request["http.response.status_code"] == 200
    assert request["fastserve.decision.id"] == dispatch["fastserve.decision.id"] == decision
    assert dispatch["gen_ai.request.model"] == "auto"
    assert (dispatch["fastserve.model"], dispatch["fastserve.policy"]) == ("small", "priced")
    assert (model["gen_ai.operation.name"], model["gen_ai.response.model"]) == ("chat", "small")
    assert model["gen_ai.usage.output_tokens"] == request["gen_ai.usage.output_tokens"] > 0
    assert model["gen_ai.usage.input_tokens"] > 0
    assert model["gen_ai.response.time_to_first_chunk"] > 0
    assert request["began_ns"] <= dispatch["ended_ns"] <= model["began_ns"] <= request["ended_ns"]
    assert not any(one["failed"] for one in (request, dispatch, model))


async def test_a_share_of_the_requests_begins_traces_of_its_own(pool, heard, collector):
    switch(pool, collector, share=0.5)
    for _ in range(40):
        assert (await ask(pool)).status_code == 200
    unsampled = await ask(pool, {"traceparent": f"00-{'1' * 32}-{PARENT}-00"})
    assert unsampled.status_code == 200
    assert heard.headers[-1]["traceparent"].startswith(f"00-{'1' * 32}-")
    assert heard.headers[-1]["traceparent"].endswith("-00"), "the model traces no more than is asked for"
    traces = {span["trace"] for span in await collected(pool, collector)}
    assert 5 <= len(traces) <= 35
    assert "1" * 32 not in traces


async def test_a_failed_try_and_the_one_after_it_are_spans_of_one_request(pool, heard, collector):
    await pool.add("broken", accuracy_prior=1.0, simulated={"faults": {"error_rate": 1.0}})
    switch(pool, collector)
    answer = await ask(pool, CALLER, fastserve={"weights": {"accuracy": 1, "latency": 0, "cost": 0}})
    assert answer.headers["x-fastserve-model"] == "small"
    spans = await collected(pool, collector)
    tries = [span for span in spans if span["name"].startswith("chat ")]
    assert [one["name"] for one in tries] == ["chat broken", "chat small"]
    assert tries[0]["error.type"]
    assert tries[1]["gen_ai.response.model"] == "small"
    assert [one["failed"] for one in tries] == [True, False]
    assert tries[0]["parent"] == tries[1]["parent"] == next(s["id"] for s in spans if s["kind"] == 2)


async def test_a_refusal_is_a_span_with_its_code_and_nothing_a_caller_wrote(pool, heard, collector):
    switch(pool, collector)
    assert (await ask(pool, CALLER, model=CANARY)).status_code == 404
    assert (await ask(pool, CALLER, model=f"auto:{CANARY}")).status_code == 404
    assert (await ask(pool, {**CALLER, "authorization": CANARY})).status_code == 401
    said = {"user": CANARY, "metadata": {"a": CANARY}, "stop": [CANARY]}
    headers = {**CALLER, "x-request-id": CANARY, "user-agent": CANARY}
    assert (await ask(pool, headers, **said)).status_code == 200
    spans = await collected(pool, collector)
    codes = [span["error.type"] for span in spans if span["kind"] == 2 and "error.type" in span]
    assert codes == ["model_not_found", "model_not_found"], "without a key that holds nothing is traced"
    assert not any(CANARY.encode() in raw for raw in collector.raw)
    key = pool.client.headers["authorization"].removeprefix("Bearer ")
    assert not any(key.encode() in raw for raw in collector.raw)


async def test_a_collector_that_refuses_is_counted_and_costs_no_request(pool, heard, collector):
    collector.status = 400
    switch(pool, collector)
    assert (await ask(pool, CALLER)).status_code == 200
    await collected(pool, collector)
    assert pool.ingress.metrics.meter.value("fastserve_degraded", "traces not exported") > 0


async def test_off_the_model_gets_no_trace(pool, heard):
    assert (await ask(pool, CALLER)).status_code == 200
    assert "traceparent" not in heard.headers[-1]
    assert pool.ingress.endpoint.tracing is None


async def test_off_nothing_of_the_exporter_is_imported() -> None:
    code = (
        "import sys; from serve_app.ingress import Ingress; import serve_app.routes.endpoint; "
        "own = ('opentelemetry.exporter.otlp', 'serve_app.tracing'); "
        "print([name for name in sys.modules if name.startswith(own)])"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


async def test_an_endpoint_that_is_no_url_is_refused(pool):
    with pytest.raises(ValueError, match="endpoint"):
        pool.ingress.reconfigure({"tracing": {"endpoint": "collector:4317"}})
