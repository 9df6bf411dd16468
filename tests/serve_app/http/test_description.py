"""`/openapi.json` says what the code does: schemathesis sends what fits it and what does not."""

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROOT = Path(__file__).resolve().parents[3]
MODEL = "small"  # as in tests/serve_app/http/fitting_bodies.py
EVERYTHING = ["chat", "tools", "json", "embeddings", "vision", "rerank"]
LEAST_CASES = 1_000
# Each bound of each field by itself, on a path whose bodies are small; all paths share these fields.
BOUNDS = ("--phases", "coverage", "--include-path", "/v1/embeddings")
WHOLE_BODIES = ("--phases", "fuzzing", "--max-examples", "8")  # of every path


@pytest.mark.timeout(600)
async def test_schemathesis_finds_no_difference_between_description_and_code(pool, tmp_path):
    simulated = {"decode_step_s": 0.0005, "mean_output_tokens": 4}
    await pool.add(MODEL, capabilities=EVERYTHING, context_tokens=100_000, simulated=simulated)
    pool.ingress.reconfigure({"caps": {"media_parts": 4096}})  # a bound over all messages has no schema
    generated = [await cases(pool, tmp_path, which) for which in (BOUNDS, WHOLE_BODIES)]
    assert sum(generated) >= LEAST_CASES, generated


async def cases(pool, folder, which):
    """How many cases were sent, none of which failed a check."""
    hooks = {"PYTHONPATH": str(ROOT), "SCHEMATHESIS_HOOKS": "tests.serve_app.http.fitting_bodies"}
    run = await asyncio.create_subprocess_exec(
        *(
            sys.executable,
            "-m",
            "schemathesis.cli",
            "run",
            f"{pool.url}/openapi.json",
            "--checks",
            "all",
            *which,
        ),
        *("--generation-deterministic", "--continue-on-failure", "--no-color", "--warnings", "off"),
        *("--header", f"Authorization: {pool.client.headers['authorization']}"),
        cwd=folder,
        env={**os.environ, **hooks},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await run.communicate()
    text = said.decode()
    assert run.returncode == 0, text
    [generated] = re.findall(r"(\d+) generated", text)
    return int(generated)
