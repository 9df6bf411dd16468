"""How a command reaches a running cluster and its performance table."""

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from deployments.ray_token import use_token
from serve_app.console.errors import CommandError, UnreachableError
from serve_app.console.reach import reachable

if TYPE_CHECKING:  # a command that reaches no cluster must not wait for Ray to be imported
    from deployments.table.api import TableApi


@contextlib.contextmanager
def connected(address: str) -> "Iterator[TableApi]":
    """The table of the cluster at `address`; what a table raises meanwhile becomes a CommandError."""
    join(address)
    from deployments.table.connect import find_table
    from deployments.table.errors import StorageUnavailableError, TableError

    try:
        yield find_table()
    except (TableError, StorageUnavailableError) as error:
        raise CommandError(str(error)) from error


def join(address: str) -> None:
    """Make this process a driver of the cluster. Raises UnreachableError where there is none."""
    found = reachable(address)  # before Ray is imported: that takes seconds, and its own search minutes
    use_token(os.environ, Path.home())
    import ray

    from deployments.table.names import NAMESPACE

    try:
        ray.init(address=found, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError) as error:
        raise UnreachableError(f"The Ray cluster at '{found}' refuses this process: {error}") from error
