"""Clients of other makers against the endpoint: plain, streamed, tools, structure, error, abandoned stream.

Each runs in an environment of its own, which the command makes below `--cache` at the first run.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from deployments.table.connect import find_table
from scripts.benchmarks.report import Report, bar
from serve_app.console.local_pool import LocalPool
from serve_app.console.text_table import print_table

ROOT: Final = Path(__file__).resolve().parents[3]
HERE: Final = Path(__file__).resolve().parent
CACHE: Final = Path.home() / ".cache" / "fastserve" / "clients"
TIMEOUT_S: Final = 600.0
FREED_S: Final = 2.0  # after a stream is abandoned, the engine works for nobody
CASES: Final = ("plain", "stream", "tools", "structured", "error", "abandoned")


@dataclass(frozen=True, slots=True)
class Client:
    """One client: its script here, and the packages that it needs."""

    name: str
    script: str
    packages: tuple[str, ...]
    cases: tuple[str, ...] = CASES  # that it must tell, further ones aside

    @property
    def is_node(self) -> bool:
        """Whether it runs in Node."""
        return self.script.endswith(".mjs")


CLIENTS: Final = (
    Client("openai (Python)", "openai_python.py", ("openai>=2.25,<4", "pydantic>=2.12,<3")),
    Client("openai (Node)", "node/openai_node.mjs", ("openai@6", "zod@4")),
    Client(
        "langchain-openai",
        "langchain_client.py",
        ("langchain-openai>=1,<2", "langchain-tests>=1,<2", "pytest-asyncio>=1.2,<2"),
        ("abandoned", "test_invoke", "test_tool_calling"),
    ),
    Client("litellm", "litellm_client.py", ("litellm>=1.80,<2",)),
    Client("instructor", "instructor_client.py", ("instructor>=1.13,<3",)),
    Client("pydantic-ai", "pydantic_ai_client.py", ("pydantic-ai-slim[openai]>=1,<4",)),
    Client("llm", "llm_command.py", ("llm>=0.27,<1",)),
    Client("openai-agents", "openai_agents.py", ("openai-agents>=0.6,<2",)),
    Client("llama-index", "llama_index_client.py", ("llama-index-llms-openai-like>=0.5,<2",)),
    Client(
        "ai (Vercel)", "node/vercel_ai.mjs", ("ai", "@ai-sdk/openai", "@ai-sdk/openai-compatible", "zod@4")
    ),
    Client("anthropic", "anthropic_python.py", ("anthropic>=0.79,<3",)),
)


@dataclass(frozen=True, slots=True)
class Case:
    """What came of one case of one client."""

    client: str
    case: str
    ok: bool
    error: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--cache", type=Path, default=CACHE, help=f"folder of the environments ({CACHE})")
    parser.add_argument("--only", metavar="A,B", help="only the clients whose names contain one of these")


def run(args: argparse.Namespace) -> Report:
    """Make the environments, start a pool of simulated models, run every client."""
    words = (args.only or "").split(",")
    chosen = [client for client in CLIENTS if any(word in client.name for word in words)]
    commands = {client.name: command(client, args.cache) for client in chosen}
    with pool() as (url, key):
        found = [case for client in chosen for case in asked(client, commands[client.name], url, key)]
    failed = [case for case in found if not case.ok]
    print_table(("client", *CASES, "further"), [_row(client.name, found) for client in chosen])
    for case in failed:
        print(f"{case.client}, {case.case}: {case.error}")
    bars = (
        bar("clients.protocol_failures", len(failed), "<=", 0),
        bar("clients.count", len(chosen), ">=", len(CLIENTS)),
        bar("clients.cases", len(found), ">=", sum(len(client.cases) for client in CLIENTS)),
    )
    return Report("clients", bars, {"cases": [asdict(case) for case in found]})


def _row(name: str, found: list[Case]) -> tuple[str, ...]:
    cases = {case.case: case.ok for case in found if case.client == name}
    further = [ok for case, ok in cases.items() if case not in CASES]
    known = ["" if case not in cases else "yes" if cases[case] else "NO" for case in CASES]
    return name, *known, f"{sum(further)}/{len(further)}" if further else ""


def command(client: Client, cache: Path) -> list[str]:
    """The words that run a client; its environment is made where it is missing."""
    folder = cache / Path(client.script).stem
    if client.is_node:
        return _node(client, folder)
    python = folder / "bin" / "python"
    if not (folder / "made").exists():
        print(f"== making the environment of {client.name} in {folder}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *client.packages], check=True)
        (folder / "made").touch()
    return [str(python), str(HERE / client.script)]


def _node(client: Client, folder: Path) -> list[str]:
    """Node finds packages beside the script, so that the scripts are copied there."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "made").exists():
        print(f"== making the environment of {client.name} in {folder}", file=sys.stderr)
        (folder / "package.json").write_text('{"private": true}')
        subprocess.run(["npm", "install", "--silent", *client.packages], cwd=folder, check=True)
        (folder / "made").touch()
    for script in (HERE / "node").glob("*.mjs"):
        (folder / script.name).write_text(script.read_text())
    return ["node", str(folder / Path(client.script).name)]


def asked(client: Client, words: list[str], url: str, key: str) -> list[Case]:
    """What a client tells of its cases; a case that it does not tell has failed."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OPENAI_", "ANTHROPIC_", "RAY_"))
    }
    environment |= {"CLIENT_URL": url, "CLIENT_KEY": key, "PYTHONPATH": str(ROOT), "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(
        words, capture_output=True, text=True, env=environment, timeout=TIMEOUT_S, check=False
    )
    found = told(client, done.stdout, done.stderr)
    found.append(Case(client.name, "engine freed", *_freed()))
    if any(not case.ok for case in found):
        print(done.stderr[-4000:], file=sys.stderr)
    return found


def told(client: Client, output: str, log: str) -> list[Case]:
    """The cases in a child's output, and as failures those that it must tell and did not."""
    lines = [json.loads(line) for line in output.splitlines() if line.startswith('{"case"')]
    found = [Case(client.name, **line) for line in lines]
    missing = set(client.cases) - {case.case.partition("[")[0] for case in found}  # by a parameter too
    return found + [
        Case(client.name, case, False, f"not told; {log.strip()[-300:]}") for case in sorted(missing)
    ]


def _freed() -> tuple[bool, str]:
    """Whether nothing runs in the engine of the abandoned stream."""
    deadline_s = time.monotonic() + FREED_S
    while True:
        snapshot = asyncio.run(find_table().snapshot("", 0, 5.0))
        running = sum(row.running + row.waiting for row in snapshot.models["slow"].replicas)
        if not running:
            return True, ""
        if time.monotonic() > deadline_s:
            return False, f"{running} requests run {FREED_S:g} s after their client left"
        time.sleep(0.1)


@contextmanager
def pool() -> Iterator[tuple[str, str]]:
    """A pool of two simulated models behind HAProxy: its URL and key."""
    with tempfile.TemporaryDirectory(prefix="fastserve-clients-") as folder:
        config = Path(folder, "cluster.yaml")
        config.write_text(yaml.safe_dump(document()))
        key = f"fs-bench-{os.urandom(16).hex()}"
        environment = {
            "FASTSERVE_API_KEY": key,
            "FASTSERVE_HOME": folder,
            "FASTSERVE_STORE": f"sqlite:///{folder}/store.sqlite3",
        }
        with LocalPool(config, environment) as made:
            made.wait_with_bar()
            yield made.base_url, key


def document() -> dict[str, Any]:
    """The endpoint as cluster.yaml has it over a quick model and one whose answers are long."""
    made: dict[str, Any] = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    ingress = next(app for app in made["applications"] if app["name"] == "fastserve")
    ingress["args"] |= {"evaluator": False, "learner": False}
    ingress["deployments"] = [entry for entry in ingress["deployments"] if entry["name"] == "Ingress"]
    quick = {"decode_step_s": 0.002, "mean_output_tokens": 24}
    slow = {"decode_step_s": 0.05, "mean_output_tokens": 5_000}
    made["applications"] = [ingress, _model("mock", quick), _model("slow", slow)]
    return made


def _model(name: str, simulated: dict[str, Any]) -> dict[str, Any]:
    args = {
        "id": name,
        "engine": "simulated",
        "num_cpus": 0.05,
        "context_tokens": 8192,
        "simulated": simulated,
    }
    live = {"capabilities": ["chat", "tools", "json", "vision", "embeddings"]}
    deployment = {"name": "Model", "user_config": live}
    return {
        "name": f"model-{name}",
        "route_prefix": None,
        "import_path": "serve_app.app:build_model",
        "args": args,
        "deployments": [deployment],
    }
