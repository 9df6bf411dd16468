"""Ask every model, plain and streamed, and check the answers; starts a pool for it, unless --url is given."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from serve_app.commands.prepare import prepare
from serve_app.console import options
from serve_app.console.errors import FAILED, CommandError

if TYPE_CHECKING:
    import ssl

    from serve_app.console.checker import Answer


@click.command(help=__doc__)
@options.config
@click.option("--url", help="ask this running endpoint, without /v1, and start nothing")
@options.as_json
def command(config: Path, url: str | None, as_json: bool) -> int:
    """Ask, print the answers as a table or JSON; 1 if a request was not answered well."""
    from serve_app.console.machine import machine
    from serve_app.console.text_table import table_text

    answers = _running(url) if url else _started(config)
    shown = table_text(*table(answers))
    failed = [answer for answer in answers if answer.error]
    if as_json:
        document = {"machine": machine(), "answers": [asdict(answer) for answer in answers], "table": shown}
        print(json.dumps(document, indent=1, ensure_ascii=False))
    else:
        print(f"{shown}\n\n{len(answers) - len(failed)} of {len(answers)} requests answered.")
    return FAILED if failed else 0


def table(answers: "list[Answer]") -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
    """Headers and rows of the table that is printed and that the README shows."""
    headers = ("asked", "way", "answered by", "TTFT s", "tokens/s", "answer")
    rows: list[tuple[object, ...]] = [
        (
            a.asked,
            "streamed" if a.streamed else "plain",
            a.model,
            f"{a.ttft_s:.2f}",
            f"{a.tokens_per_s:.0f}",
            a.error or " ".join(a.text.split())[:40],
        )
        for a in answers
    ]
    return headers, rows


def _started(config: Path) -> "list[Answer]":
    """The answers of a pool that runs for this long only."""
    from serve_app.cluster_file.running import PoolError
    from serve_app.console.local_pool import LocalPool

    prepare(config)
    try:
        with LocalPool(config) as pool:
            pool.wait_with_bar()
            return _running(pool.base_url, pool.trust())
    except PoolError as error:
        raise CommandError(str(error)) from error


def _running(url: str, trust: "ssl.SSLContext | None" = None) -> "list[Answer]":
    """The answers of an endpoint that runs."""
    import aiohttp
    from tqdm import tqdm

    from serve_app.console.checker import check
    from serve_app.console.own_key import own_key

    with tqdm(desc="requests", unit="request", file=sys.stderr) as bar:

        def progress(what: str) -> None:
            bar.set_postfix_str(what)
            bar.update()

        try:
            return check(url, own_key(), progress, trust)
        except (aiohttp.ClientError, OSError) as error:
            raise CommandError(f"Endpoint '{url}' does not answer: {error}.") from error
