"""Instructor: structured answers by tools and by schema."""

from typing import Any

import instructor
import openai
from pydantic import BaseModel

from scripts.benchmarks.clients.child import HELLO, KEY, MODEL, SLOW, URL, begin, check, raises, run

RAW: Any = openai.OpenAI(base_url=f"{URL}/v1", api_key=KEY, max_retries=0)
MESSAGES = [{"role": "user", "content": HELLO}]


class Person(BaseModel):
    """What is asked for in structure."""

    name: str
    age: int


def ask(mode: Any = instructor.Mode.TOOLS, **fields: Any) -> Any:
    """One structured answer."""
    client = instructor.from_openai(RAW, mode=mode)
    asked = {"model": MODEL, "messages": MESSAGES, "response_model": Person, "max_retries": 1}
    return client.chat.completions.create(**(asked | fields))


def plain() -> None:
    """Without a structure it is the package underneath."""
    check(ask(response_model=None).choices[0].message.content, "no content")


def stream() -> None:
    """Parts of a structure, as they come."""
    client = instructor.from_openai(RAW, mode=instructor.Mode.TOOLS)
    parts = list(
        client.chat.completions.create_partial(model=MODEL, messages=MESSAGES, response_model=Person)
    )
    check(parts and parts[-1].name, "no parts")


def tools() -> None:
    """By a call of a tool."""
    check(isinstance(ask(), Person), "no person")


def structured() -> None:
    """By a schema."""
    check(isinstance(ask(instructor.Mode.JSON_SCHEMA), Person), "no person")


def error() -> None:
    """The error names what is wrong."""
    told = raises(Exception, lambda: ask(model="nobody"))
    check("not served" in told, told)


def abandoned() -> None:
    """Left after a few pieces."""
    chunks = RAW.chat.completions.create(model=SLOW, messages=MESSAGES, stream=True)
    begin(chunks)
    chunks.close()


if __name__ == "__main__":
    run(plain, stream, tools, structured, error, abandoned)
