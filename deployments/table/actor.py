"""The table on Ray: its actor."""

import os
from pathlib import Path
from typing import Any, Final

import ray
from ray.actor import ActorHandle

from deployments.home import store_key_file, store_url
from deployments.metrics.meter import RayMeter
from deployments.table.store.store import Store
from deployments.table.table import Table
from deployments.table.upkeep import Retention

VERSION: Final = 3  # raised when old and new code cannot share one actor
NAME: Final = f"fastserve:table:v{VERSION}"
NAMESPACE: Final = "fastserve"
HEAD: Final = "node:__internal_head__"


class TableActor(Table):
    """A Table that opens its own store: actors are made from what can be pickled."""

    def __init__(self, url: str, key_file: Path, retention: Retention) -> None:
        super().__init__(Store(url, key_file), RayMeter(), retention)


def get_or_create_table(url: str | None = None) -> "ActorHandle[Any]":
    """The table's actor, made on the head node if there is none; ends those of older versions.

    It outlives whoever made it and restarts for ever. `url` names the store, by default `store_url()`.
    """
    for version in range(1, VERSION):
        try:
            ray.kill(ray.get_actor(f"fastserve:table:v{version}", NAMESPACE))
        except ValueError:  # there is none
            continue
    resources: dict[str, float] = ray.cluster_resources()
    actor: Any = ray.remote(TableActor).options(
        name=NAME,
        namespace=NAMESPACE,
        lifetime="detached",
        get_if_exists=True,
        max_restarts=-1,
        max_task_retries=0,
        num_cpus=0,
        max_concurrency=1000,
        resources={HEAD: 0.001} if HEAD in resources else None,
    )
    handle: ActorHandle[Any] = actor.remote(url or store_url(), store_key_file(), _retention())
    return handle


def _retention() -> Retention:
    """From FASTSERVE_RETENTION_DAYS and FASTSERVE_RETENTION_ROWS, read where the table is first asked for."""
    days = float(os.environ.get("FASTSERVE_RETENTION_DAYS", "30"))
    return Retention(days * 86_400.0, int(os.environ.get("FASTSERVE_RETENTION_ROWS", "200000")))
