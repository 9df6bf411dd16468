"""The endpoint over a simulated pool in one process: what callers see."""

import json

import pytest
from openai import AsyncOpenAI

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def sdk(served):
    return AsyncOpenAI(base_url=f"{served.url}/v1", api_key="fs-test-key-0123456789abcdef", max_retries=0)


@pytest.fixture(scope="module")
async def served(pool):
    return pool


async def test_auto_answers_and_says_which_model(pool):
    await pool.add("small", capabilities=["chat", "tools", "json"])
    await pool.add("large", capabilities=["chat", "tools", "json"], accuracy_prior=0.9)
    answer = await pool.chat("auto")
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["model"] == answer.headers["x-fastserve-model"] in ("small", "large")
    assert answer.headers["x-fastserve-policy"] == "formula"
    assert answer.headers["x-fastserve-decision-id"].startswith("d-")
    assert answer.headers["x-fastserve-feedback-token"]


async def test_a_named_model_answers(pool):
    answer = await pool.chat("small")
    assert answer.json()["model"] == "small"
    assert answer.headers["x-fastserve-policy"] == "named"


async def test_a_stream_ends_with_done_and_usage(pool):
    body = {"stream": True, "stream_options": {"include_usage": True}}
    answer = await pool.chat("auto", **body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [line[6:] for line in answer.text.splitlines() if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    assert json.loads(events[-2])["usage"]["completion_tokens"] > 0


async def test_outcomes_reach_the_table(pool):
    before = {m: r.requests for m, r in pool.ingress.view.snapshot.models.items()}
    answer = await pool.chat("small")
    decision_id = answer.headers["x-fastserve-decision-id"]
    await pool.ingress.view.flush()
    logged = await pool.table.transitions(0.0, 1000)
    decision, outcome = next(pair for pair in logged if pair[0].decision_id == decision_id)
    assert (decision.model, outcome.model) == ("small", "small")
    assert outcome.outcome.status == "ok"
    assert outcome.outcome.output_tokens == answer.json()["usage"]["completion_tokens"]
    assert outcome.ingress_s < 0.5
    assert before["small"] >= 0
