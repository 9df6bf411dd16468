"""The log of requests: a JSON line each, who and how it went; no text, no key, nothing a caller made up."""

import json
import logging
from collections.abc import Iterator
from logging.handlers import MemoryHandler, RotatingFileHandler
from pathlib import Path

import pytest

from serve_app.routes.request_log import RequestLog, file_beside_serves

pytestmark = pytest.mark.asyncio(loop_scope="module")

CANARY = "canary-d41d8cd9"
ON = {"request_log": True}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Ray's log folder, with the log that Serve keeps for a replica in this process."""
    serves = RotatingFileHandler(tmp_path / "replica_fastserve_Ingress_x.log", maxBytes=2_000, backupCount=3)
    handler = MemoryHandler(1_000, target=serves)
    logger = logging.getLogger("ray.serve")
    logger.addHandler(handler)
    yield tmp_path
    logger.removeHandler(handler)
    handler.close()
    serves.close()


def text(folder: Path) -> str:
    return "".join(path.read_text() for path in sorted(folder.glob("requests_*")))


async def test_a_request_is_one_line_with_what_came_of_it(pool, folder):
    await pool.add("small", price={"prompt_usd_per_mtok": 1.0, "completion_usd_per_mtok": 2.0})
    pool.ingress.reconfigure(ON)
    answer = await pool.chat("auto")
    usage = answer.json()["usage"]
    await pool.chat("auto", stream=True)
    pool.ingress.reconfigure({})
    line, streamed = (json.loads(one) for one in text(folder).splitlines())
    assert line["id"] == answer.headers["x-fastserve-decision-id"]
    assert (line["key"], line["requested"], line["model"], line["policy"]) == (
        "environment",
        "auto",
        "small",
        "priced",
    )
    assert (line["status"], line["http_status"], line["error_code"]) == ("ok", 200, None)
    assert (line["prompt_tokens"], line["output_tokens"]) == (
        usage["prompt_tokens"],
        usage["completion_tokens"],
    )
    assert line["cost_usd"] == pytest.approx((line["prompt_tokens"] + 2 * line["output_tokens"]) / 1e6)
    assert 0 < streamed["ingress_s"] < streamed["ttft_s"] <= streamed["e2e_s"]
    assert (line["stream"], line["ttft_s"], streamed["stream"]) == (False, None, True)
    assert (await pool.chat("small")).status_code == 200
    assert len(text(folder).splitlines()) == 2, "off again"


async def test_no_text_of_a_caller_and_no_key_reaches_the_log(pool, folder):
    """Whatever a caller can write stays out: prompt, answer, names that it made up, headers, keys."""
    pool.ingress.reconfigure(ON)
    said = {"user": CANARY, "metadata": {"a": CANARY}, "stop": [CANARY], "extra_headers": {CANARY: CANARY}}
    for body in ({}, {"stream": True}, {"stop": [CANARY]}, {"user": CANARY}, said):
        await pool.chat("small", text=f"Say {CANARY}", **body)
    for model in (CANARY, f"auto:{CANARY}", f"small-{CANARY}"):
        assert (await pool.chat(model, text=CANARY)).status_code == 404
    headers = {"x-request-id": CANARY, "traceparent": CANARY, "x-session-id": CANARY, "user-agent": CANARY}
    body = {"model": "small", "messages": [{"role": "user", "content": CANARY}]}
    assert (await pool.client.post("/v1/chat/completions", json=body, headers=headers)).status_code == 200
    wrong = await pool.client.post("/v1/chat/completions", json=body, headers={"authorization": CANARY})
    assert wrong.status_code == 401
    assert (await pool.client.post("/v1/chat/completions", content=CANARY)).status_code == 400
    pool.ingress.reconfigure({})
    logged = text(folder)
    statuses = [json.loads(line)["http_status"] for line in logged.splitlines()]
    assert {200, 400, 401, 404} <= set(statuses)
    assert CANARY not in logged
    assert pool.client.headers["authorization"].removeprefix("Bearer ") not in logged


async def test_a_refusal_names_its_key_where_it_had_one(pool, folder):
    pool.ingress.reconfigure(ON)
    assert (await pool.chat("nobody")).status_code == 404
    assert (
        await pool.client.post("/v1/chat/completions", json={}, headers={"authorization": ""})
    ).status_code == 401
    pool.ingress.reconfigure({})
    known, stranger = (json.loads(line) for line in text(folder).splitlines())
    assert (known["key"], known["error_code"], known["requested"]) == (
        "environment",
        "model_not_found",
        "other",
    )
    assert (stranger["key"], stranger["http_status"]) == (None, 401)


async def test_the_file_turns_over_as_serves_own_does(folder):
    log = RequestLog()
    log.switch(True)
    for number in range(200):
        log.write({"number": number})
    log.close()
    files = sorted(path.name for path in folder.glob("requests_*"))
    name = "requests_replica_fastserve_Ingress_x.log"
    assert files == [name, f"{name}.1"]
    assert all(path.stat().st_size <= 2_000 for path in folder.glob("requests_*"))
    assert json.loads((folder / name).read_text().splitlines()[-1]) == {"number": 199}


async def test_without_a_log_of_serve_it_cannot_be_switched_on():
    with pytest.raises(RuntimeError, match="no log file"):
        file_beside_serves()
    log = RequestLog()
    with pytest.raises(RuntimeError):
        log.switch(True)
    assert not log.is_on
