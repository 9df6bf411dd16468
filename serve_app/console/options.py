"""The options that several commands share."""

from pathlib import Path
from typing import Final

import click

from deployments.shipped import found

address: Final = click.option(
    "--address",
    default="auto",
    show_default=True,
    metavar="HOST:PORT",
    help="Ray cluster to use; auto is RAY_ADDRESS, else the cluster of this machine",
)
as_json: Final = click.option("--json", "as_json", is_flag=True, help="print JSON")
config: Final = click.argument(
    "config",
    type=click.Path(path_type=Path),
    required=False,
    default=Path("cluster.yaml"),
    callback=lambda _context, _parameter, value: found(str(value)),
)
url: Final = click.option(
    "--url", default="http://127.0.0.1:8000", show_default=True, help="the endpoint, without /v1"
)
engine_flags: Final = click.option(
    "--engine-flags/--no-engine-flags", default=True, help="ask vLLM's own parser too (slow)"
)
yes: Final = click.option("--yes", is_flag=True, help="do not ask")
timeout: Final = click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=1.0),
    default=900.0,
    show_default=True,
    metavar="SECONDS",
    help="go back when it is not healthy after so long",
)
