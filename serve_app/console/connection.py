"""How a command reaches the performance table of a running cluster."""

import logging
from typing import Any

from serve_app.console.errors import CommandError, UnreachableError
from serve_app.console.reach import reachable


def connect(address: str) -> Any:
    """The table's actor. Raises CommandError where there is no cluster or no table in it."""
    join(address)
    import ray

    from deployments.table.actor import NAME, NAMESPACE

    try:
        return ray.get_actor(NAME, NAMESPACE)
    except ValueError as error:
        raise CommandError(f"No table '{NAME}' in this cluster. Deploy FastServe first.") from error


def join(address: str) -> None:
    """Make this process a driver of the cluster. Raises UnreachableError where there is none."""
    found = reachable(address)  # before Ray is imported: that takes seconds, and its own search minutes
    import ray

    from deployments.table.actor import NAMESPACE

    try:
        ray.init(address=found, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError) as error:
        raise UnreachableError(f"The Ray cluster at '{found}' refuses this process: {error}") from error
