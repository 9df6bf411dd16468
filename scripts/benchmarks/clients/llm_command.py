"""The `llm` command."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from scripts.benchmarks.clients.child import ASKED, HELLO, KEY, MODEL, SLOW, URL, check, run

COMMAND = str(Path(sys.executable).with_name("llm"))
TOOL = 'def weather(city: str) -> str:\n    "The weather of a city."\n    return "Rain"\n'
TIMEOUT_S = 120.0


def environment(folder: str) -> dict[str, str]:
    """The command's own folder, with the endpoint's models."""
    entries = [
        {
            "model_id": name,
            "model_name": name,
            "api_base": f"{URL}/v1",
            "api_key_name": "fastserve",
            "supports_tools": True,
            "supports_schema": True,
        }
        for name in (MODEL, SLOW, "nobody")
    ]
    Path(folder, "extra-openai-models.yaml").write_text(json.dumps(entries))  # JSON is YAML
    Path(folder, "keys.json").write_text(json.dumps({"fastserve": KEY}))
    return {**os.environ, "LLM_USER_PATH": folder}


FOLDER = tempfile.mkdtemp(prefix="fastserve-llm-")
ENVIRONMENT = environment(FOLDER)


def ask(*words: str, model: str = MODEL, code: int = 0) -> str:
    """What the command says."""
    done = subprocess.run(
        [COMMAND, "-m", model, *words],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        timeout=TIMEOUT_S,
        check=False,
    )
    check(done.returncode == code, f"exit code {done.returncode}: {done.stderr[-300:]}")
    return done.stdout if code == 0 else done.stderr


def plain() -> None:
    """At once."""
    check(ask("--no-stream", HELLO).strip(), "no text")


def stream() -> None:
    """Piece by piece."""
    check(ask(HELLO).strip(), "no text")


def tools() -> None:
    """The command runs the tool and goes on with its result."""
    told = ask("--functions", TOOL, "--tools-debug", ASKED)
    check(told.strip(), "no text")


def structured() -> None:
    """By a schema."""
    check(
        set(json.loads(ask("--no-stream", "--schema", "name, age int", HELLO))) == {"name", "age"}, "fields"
    )


def error() -> None:
    """The server's sentence."""
    check("not served" in ask(HELLO, model="nobody", code=1), "the server's sentence")


def abandoned() -> None:
    """Ended in the middle of its stream."""
    words = [COMMAND, "-m", SLOW, HELLO]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, env=ENVIRONMENT
    ) as process:
        assert process.stdout is not None
        check(process.stdout.read(8), "no text")
        process.terminate()


if __name__ == "__main__":
    run(plain, stream, tools, structured, error, abandoned)
