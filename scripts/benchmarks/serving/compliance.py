"""OpenAI compliance, by the package llm-comply: what vLLM's own server passes, FastServe passes too.

`--llm-comply` names its command, installed in an environment of its own:
`python -m venv DIR && DIR/bin/pip install llm-comply`, then `DIR/bin/llm-comply`.
"""

import argparse
import asyncio
import json
import subprocess
from collections.abc import Mapping
from typing import Any

from scripts.benchmarks.report import Report, bar
from scripts.benchmarks.serving import served_pool
from serve_app.console.text_table import print_table

REQUEST_S = 300
TIMEOUT_S = 1_800.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    served_pool.add_arguments(parser)
    parser.add_argument("--llm-comply", default="llm-comply", help="the command (default: on the path)")
    parser.add_argument("--model", default="smollm2-135m", help="the model to ask")


def _tested(command: str, url: str, key: str, model: str) -> dict[str, dict[str, Any]]:
    """The results by test. Raises JSONDecodeError where the command gave none."""
    words = [command, "--format", "openai-chat", "-u", f"{url}/v1", "-k", key, "-m", model, "--json"]
    words += ["--timeout", str(REQUEST_S)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    return {test["id"]: test for test in json.loads(done.stdout)["results"]}


async def _engine(pool: served_pool.Serving, model: str) -> tuple[str, str]:
    snapshot = await pool.table.snapshot("", 0, 5.0)
    return snapshot.models[model].replicas[0].url, await pool.table.secret()


def failures(own: Mapping[str, Any], vllm: Mapping[str, Any]) -> list[str]:
    """Tests that fail here and not there, or with complaints that are not made there."""
    return [
        name
        for name, test in own.items()
        if test["status"] == "failed"
        and (
            vllm[name]["status"] != "failed"
            or set(test.get("errors", [])) - set(vllm[name].get("errors", []))
        )
    ]


def run(args: argparse.Namespace) -> Report:
    """Test vLLM's own server inside the replica, then the endpoint by name and by `auto`."""
    with served_pool.serving(args) as pool:
        url, secret = asyncio.run(_engine(pool, args.model))
        ways = {
            "vllm": _tested(args.llm_comply, url, secret, args.model),
            "named": _tested(args.llm_comply, pool.url, pool.key, args.model),
            "auto": _tested(args.llm_comply, pool.url, pool.key, "auto"),
        }
    print_table(
        ("test", *ways),
        [(name, *(tests[name]["status"] for tests in ways.values())) for name in ways["vllm"]],
    )
    more = {way: failures(ways[way], ways["vllm"]) for way in ("named", "auto")}
    bars = tuple(bar(f"compliance.more_failures.{way}", len(names), "<=", 0) for way, names in more.items())
    results = {
        way: {name: {key: test.get(key) for key in ("status", "errors")} for name, test in tests.items()}
        for way, tests in ways.items()
    }
    return Report("compliance", bars, results)
