"""A real pool for a benchmark: started from a Serve config, or one that runs already."""

import argparse
import contextlib
import copy
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from deployments.table.api import TableApi
from deployments.table.connect import find_table
from serve_app.console.local_pool import LocalPool
from serve_app.console.own_key import own_key

PROXIES: Final = {
    "haproxy": {"RAY_SERVE_ENABLE_HA_PROXY": "1"},
    "python": {"RAY_SERVE_ENABLE_HA_PROXY": "0"},
}


@dataclass(frozen=True, slots=True)
class Serving:
    """A running pool: its endpoint, a key for it, and its table."""

    url: str
    key: str
    table: TableApi


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that say which pool."""
    parser.add_argument("--config", type=Path, default=Path("cluster.yaml"), help="Serve config to start")
    parser.add_argument("--only", metavar="A,B", help="start only these models of the config")
    parser.add_argument(
        "--proxy", choices=("haproxy", "python"), help="Serve's proxy in place of the config's"
    )
    parser.add_argument("--url", help="use the pool that runs there instead, with its Ray at --address")
    parser.add_argument("--address", default="auto", help="Ray cluster of the running pool")


@contextlib.contextmanager
def serving(
    args: argparse.Namespace, companions: Mapping[str, Mapping[str, Any]] | None = None
) -> Iterator[Serving]:
    """The pool that the options name. One that was started here ends with the block, and its store too.

    `evaluator` and `learner` run only where `companions` gives their `user_config`: they would disturb
    what is measured.
    """
    if args.url:
        import ray

        ray.init(address=args.address, log_to_driver=False, logging_level=logging.ERROR)
        try:
            yield Serving(args.url, own_key(), find_table())
        finally:
            ray.shutdown()
        return
    with tempfile.TemporaryDirectory(prefix="fastserve-bench-") as folder:
        config = Path(folder, "cluster.yaml")
        document = _document(args.config, args.only, companions or {})
        if args.proxy:
            document["controller_options"]["runtime_env"]["env_vars"] |= PROXIES[args.proxy]
        config.write_text(yaml.safe_dump(document))
        key = os.environ.get("FASTSERVE_API_KEY") or f"fs-bench-{os.urandom(16).hex()}"
        environment = {"FASTSERVE_API_KEY": key, "FASTSERVE_STORE": f"sqlite:///{folder}/store.sqlite3"}
        with LocalPool(config, environment) as pool:
            pool.wait_with_bar()
            yield Serving(pool.base_url, key, find_table())


def _document(config: Path, only: str | None, companions: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    document: dict[str, Any] = copy.deepcopy(yaml.safe_load(config.read_text()))
    wanted = None if only is None else set(only.split(","))
    kept = []
    for app in document["applications"]:
        args = app.get("args", {})
        if app["name"] == "fastserve":
            for name in ("evaluator", "learner"):
                args[name] = name in companions
            app["deployments"] = [d for d in app["deployments"] if d["name"] == "Ingress"]
            app["deployments"] += [
                {"name": name.title(), "user_config": dict(settings)} for name, settings in companions.items()
            ]
        elif wanted is not None and args.get("id") not in wanted:
            continue
        kept.append(app)
    document["applications"] = kept
    return document
