"""The real pool: the README's commands as they stand, and the OpenAI SDK against real vLLM."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from openai import AsyncOpenAI, OpenAI

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A home of its own, so that nothing here depends on what was there before."""
    home = tmp_path_factory.mktemp("home")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FASTSERVE_", "RAY_"))}
    return {**kept, "FASTSERVE_HOME": str(home)}


@pytest.fixture(scope="module")
def running(environment: dict[str, str]) -> Iterator[str]:
    """`scripts/run.sh`, up; gives what it printed. It must end by itself after Ctrl-C."""
    process = subprocess.Popen(
        ["scripts/run.sh"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    printed = []
    for line in process.stdout:
        printed.append(line)
        if "Ctrl-C" in line:
            break
    yield "".join(printed)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(90) == 0


def key(environment: dict[str, str]) -> dict[str, str]:
    text = (Path(environment["FASTSERVE_HOME"]) / "key").read_text().strip()
    return {
        **environment,
        "FASTSERVE_KEY": text,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }


def output(command: list[str], environment: dict[str, str]) -> str:
    """What a command prints; it must succeed."""
    done = subprocess.run(
        command, env=key(environment), capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_the_python_example_answers(running: str, environment: dict[str, str]) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    done = subprocess.run(
        [sys.executable, "-c", block],
        env=key(environment),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert len(done.stdout.split()) >= 2


def test_the_printed_calls_answer(running: str, environment: dict[str, str]) -> None:
    calls = running[running.index("curl") :].replace("Ctrl-C stops everything.", "")
    printed = output(["bash", "-euc", calls], environment)
    assert printed.count('"model"') >= 2
    assert "data: [DONE]" in printed


@pytest.fixture
def sdk(running: str, environment: dict[str, str]) -> dict[str, str]:
    """Arguments of an OpenAI client."""
    return {"base_url": "http://127.0.0.1:8000/v1", "api_key": key(environment)["FASTSERVE_KEY"]}


MESSAGES = [{"role": "user", "content": "Is 'The room was clean.' positive or negative? One word."}]
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
SCHEMA = {
    "type": "object",
    "properties": {"tone": {"type": "string", "enum": ["positive", "negative"]}},
    "required": ["tone"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("model", ["auto", "tiny", "smollm2-tuned"])
def test_the_sdk_plain_and_streamed(sdk: dict[str, str], model: str) -> None:
    client = OpenAI(**sdk)
    plain = client.chat.completions.create(model=model, messages=MESSAGES, max_tokens=8)
    assert plain.choices[0].message.content
    assert model in ("auto", plain.model)
    chunks = list(
        client.chat.completions.create(
            model=model, messages=MESSAGES, max_tokens=8, stream=True, stream_options={"include_usage": True}
        )
    )
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert chunks[-1].usage.completion_tokens > 0


async def test_the_async_sdk_with_many_at_once(sdk: dict[str, str]) -> None:
    async with AsyncOpenAI(**sdk) as client:
        asked = (
            client.chat.completions.create(model="auto", messages=MESSAGES, max_tokens=8) for _ in range(8)
        )
        answers = await asyncio.gather(*asked)
    assert all(answer.choices[0].message.content for answer in answers)


def test_a_json_schema_is_kept(sdk: dict[str, str]) -> None:
    shape = {"type": "json_schema", "json_schema": {"name": "tone", "schema": SCHEMA, "strict": True}}
    answer = OpenAI(**sdk).chat.completions.create(
        model="smollm2-tuned", messages=MESSAGES, max_tokens=48, response_format=shape
    )
    assert json.loads(answer.choices[0].message.content or "")["tone"] in ("positive", "negative")


def test_a_named_tool_is_called_with_an_object(sdk: dict[str, str]) -> None:
    answer = OpenAI(**sdk).chat.completions.create(
        model="auto",
        messages=[{"role": "user", "content": "What is the weather in Paris?"}],
        tools=[TOOL],
        tool_choice={"type": "function", "function": {"name": "weather"}},
        max_tokens=48,
        temperature=0,
    )
    (call,) = answer.choices[0].message.tool_calls or []
    assert call.function.name == "weather"
    assert isinstance(json.loads(call.function.arguments)["city"], str)
