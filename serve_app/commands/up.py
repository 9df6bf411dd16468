"""Start the pool of a Serve config on this machine, say how to call it, and serve until Ctrl-C."""

import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import click

from serve_app.commands.prepare import prepare
from serve_app.console import options
from serve_app.console.errors import CommandError

if TYPE_CHECKING:
    from serve_app.console.local_pool import LocalPool

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


@click.command(help=__doc__)
@options.config
def command(config: Path) -> None:
    """Prepare, start, wait, serve; everything that was started stops with the command."""
    from deployments.home import first_key_file
    from serve_app.cluster_file.running import PoolError
    from serve_app.console.local_pool import LocalPool

    prepare(config)
    try:
        with LocalPool(config) as pool:
            pool.wait_with_bar()
            _serve_until_stopped(pool, first_key_file())
    except PoolError as error:
        raise CommandError(str(error)) from error


def _serve_until_stopped(pool: "LocalPool", key_file: Path) -> None:
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    print(CALLS.format(key_file=key_file, url=pool.base_url))
    if pool.certificate is not None:
        print(f"In the URL write a name that {pool.certificate.chain} bears.")
    print("Ctrl-C stops everything.", flush=True)
    stop.wait()
    print("stopping: no new requests, streams end ...", flush=True)
    pool.drain()
