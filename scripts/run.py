"""Start the pool of a Serve config here and say how to talk to it; --check asks every model and stops."""

import argparse
import json
import signal
import sys
import threading
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from deployments.home import home
from scripts.check_pool import Answer, check
from scripts.local_pool import LocalPool, PoolError
from scripts.machine import machine
from scripts.text_table import table_text
from serve_app.access.keys import ensure_key, read_key
from serve_app.commands import prepare
from serve_app.console.connection import CommandError

CALLS = """
API keys: {key_file}

export FASTSERVE_KEY=$(cat {key_file})

curl {url}/v1/chat/completions \\
  -H "Authorization: Bearer $FASTSERVE_KEY" -H 'Content-Type: application/json' \\
  -d '{{"model": "auto", "messages": [{{"role": "user", "content": "Say hello."}}]}}'

python - <<'PY'
import os
from openai import OpenAI
client = OpenAI(base_url="{url}/v1", api_key=os.environ["FASTSERVE_KEY"])
answer = client.chat.completions.create(model="auto", messages=[{{"role": "user", "content": "Say hello."}}])
print(answer.model, answer.choices[0].message.content)
PY

curl -N {url}/v1/chat/completions \\
  -H "Authorization: Bearer $FASTSERVE_KEY" -H 'Content-Type: application/json' \\
  -d '{{"model": "auto", "stream": true, "messages": [{{"role": "user", "content": "Count to five."}}]}}'
"""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/run.sh", description=__doc__)
    parser.add_argument("config", type=Path, nargs="?", default=Path("cluster.yaml"))
    parser.add_argument("--check", action="store_true", help="send real requests, print a table, stop")
    parser.add_argument("--json", type=Path, metavar="FILE", help="with --check: write the answers here")
    return parser.parse_args()


def table(answers: list[Answer]) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
    """Headers and rows of the table that --check prints and the README shows."""
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


def _check(pool: LocalPool, key: str, out: Path | None) -> int:
    with tqdm(desc="requests", unit="request", file=sys.stderr) as bar:

        def progress(what: str) -> None:
            bar.set_postfix_str(what)
            bar.update()

        answers = check(pool.base_url, key, progress)
    shown = table_text(*table(answers))
    print(shown)
    if out is not None:
        document = {
            "machine": machine(),
            "answers": [asdict(a) for a in answers],
            "table": shown,
        }
        out.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    failed = [a for a in answers if a.error]
    print(f"\n{len(answers) - len(failed)} of {len(answers)} requests answered.")
    return 1 if failed else 0


def _serve_until_stopped(pool: LocalPool) -> int:
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    print(CALLS.format(key_file=ensure_key(home()), url=pool.base_url))
    print("Ctrl-C stops everything.", flush=True)
    stop.wait()
    print("stopping ...", flush=True)
    return 0


def main() -> int:
    """Prepare, start, wait, then check or serve; everything that was started stops with it."""
    args = _arguments()
    prepare.run(args)
    with LocalPool(args.config) as pool:
        pool.wait_with_bar()
        if args.check:
            return _check(pool, read_key(home()), args.json)
        return _serve_until_stopped(pool)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (CommandError, PoolError) as error:
        sys.exit(f"run.sh: {error}")
