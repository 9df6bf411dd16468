"""Talk to the endpoint: the answer as it streams, who gave it and why. MESSAGE, or lines of the terminal."""

import asyncio
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from serve_app.console import options
from serve_app.console.errors import CommandError

if TYPE_CHECKING:
    from serve_app.console.talk import Talk


@click.command(help=f"{__doc__}\n\nLines are read until Ctrl-D; a conversation keeps what was said.")
@click.argument("message", required=False)
@click.option("--model", default="auto", show_default=True, help="auto, or the id of a model")
@click.option("--profile", help="a profile of the config, such as customer-service; only with auto")
@options.url
@options.as_json
def command(message: str | None, model: str, profile: str | None, url: str, as_json: bool) -> None:
    """Ask and print; with JSON an answer a line."""
    if profile is not None and model != "auto":
        raise CommandError(f"Profile '{profile}' goes with auto: leave --model '{model}' out.")
    from serve_app.console.own_key import own_key
    from serve_app.console.talk import Talk, TalkError

    talk = Talk(url.rstrip("/"), own_key(), f"auto:{profile}" if profile else model)
    try:
        for text in [message] if message else _lines():
            asyncio.run(_answer(talk, text, as_json))
    except TalkError as error:
        raise CommandError(str(error)) from error


def _lines() -> Iterator[str]:
    """What is typed, or comes from another program, line by line."""
    while True:
        if sys.stdin.isatty():
            print("> ", end="", flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        if line.strip():
            yield line.strip()


async def _answer(talk: "Talk", text: str, as_json: bool) -> None:
    def show(piece: str) -> None:
        if not as_json:
            print(piece, end="", flush=True)

    reply = await talk.ask(text, show)
    print(json.dumps(asdict(reply), ensure_ascii=False) if as_json else f"\n{reply.line()}")
