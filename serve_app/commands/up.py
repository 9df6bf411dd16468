"""Start the pool of a Serve config on this machine, say how to call it, and serve until Ctrl-C."""

import argparse
import signal
import threading

from deployments.home import home
from serve_app.access.keys import ensure_key
from serve_app.commands import prepare
from serve_app.console.connection import CommandError
from serve_app.console.local_pool import LocalPool, PoolError

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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    prepare.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Prepare, start, wait, serve; everything that was started stops with the command."""
    prepare.run(args)
    try:
        with LocalPool(args.config) as pool:
            pool.wait_with_bar()
            return _serve_until_stopped(pool)
    except PoolError as error:
        raise CommandError(str(error)) from error


def _serve_until_stopped(pool: LocalPool) -> int:
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    print(CALLS.format(key_file=ensure_key(home()), url=pool.base_url))
    print("Ctrl-C stops everything.", flush=True)
    stop.wait()
    print("stopping ...", flush=True)
    return 0
