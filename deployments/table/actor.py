"""The table on Ray: its actor."""

import os
from typing import Any, Final

import ray
from ray.actor import ActorHandle

from deployments.home import KEY_FILE_ENV, first_key_file, key_file, store_key_file, store_url
from deployments.keys.watch import KeyWatch
from deployments.metrics.meter import ray_meter
from deployments.node import node_address, require_authentication
from deployments.table.names import NAME, NAMESPACE, VERSION
from deployments.table.store.store import Store
from deployments.table.table import Table
from deployments.table.upkeep import Retention

HEAD: Final = "node:__internal_head__"


class TableActor(Table):
    """A Table that finds its store and its files on its own node, whoever asked for it first."""

    def __init__(self) -> None:
        """Raises RuntimeError on a node that anybody could run code on."""
        require_authentication(node_address())
        watch = KeyWatch(key_file(), first_key_file(), is_named=KEY_FILE_ENV in os.environ)
        super().__init__(Store(store_url(), store_key_file()), ray_meter(), _retention(), key_watch=watch)


def get_or_create_table() -> "ActorHandle[Any]":
    """The table's actor, made on the head node if there is none; ends those of older versions.

    It outlives whoever made it and restarts for ever.
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
    handle: ActorHandle[Any] = actor.remote()
    return handle


def _retention() -> Retention:
    """From FASTSERVE_RETENTION_DAYS and FASTSERVE_RETENTION_ROWS, of the head node."""
    days = float(os.environ.get("FASTSERVE_RETENTION_DAYS", "30"))
    return Retention(days * 86_400.0, int(os.environ.get("FASTSERVE_RETENTION_ROWS", "200000")))
