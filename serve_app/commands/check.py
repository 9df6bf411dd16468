"""Start the pool of a Serve config, ask every model plain and streamed, print the answers, and stop it."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from deployments.home import home
from serve_app.access.keys import read_key
from serve_app.commands import prepare
from serve_app.console.checker import Answer, check
from serve_app.console.connection import CommandError
from serve_app.console.local_pool import LocalPool, PoolError
from serve_app.console.machine import machine
from serve_app.console.text_table import table_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    prepare.add_arguments(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the answers here")


def run(args: argparse.Namespace) -> int:
    """Prepare, start, wait, ask, stop; 1 if a request was not answered well."""
    prepare.run(args)
    try:
        with LocalPool(args.config) as pool:
            pool.wait_with_bar()
            answers = _ask(pool.base_url, read_key(home()))
    except PoolError as error:
        raise CommandError(str(error)) from error
    shown = table_text(*table(answers))
    print(shown)
    if args.json:
        document = {"machine": machine(), "answers": [asdict(a) for a in answers], "table": shown}
        args.json.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    failed = [a for a in answers if a.error]
    print(f"\n{len(answers) - len(failed)} of {len(answers)} requests answered.")
    return 1 if failed else 0


def table(answers: list[Answer]) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
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


def _ask(base_url: str, key: str) -> list[Answer]:
    with tqdm(desc="requests", unit="request", file=sys.stderr) as bar:

        def progress(what: str) -> None:
            bar.set_postfix_str(what)
            bar.update()

        return check(base_url, key, progress)
