"""How a process of the cluster reaches the table.

Ray is imported only when a function is called: it reads its environment at import, and some callers
set that first.
"""

import time
from typing import Final

from deployments.table.api import TableApi
from deployments.table.errors import TableError
from deployments.table.names import NAME, NAMESPACE

_LOOK_S: Final = 0.5


def join_table() -> TableApi:
    """The table of the cluster that this process belongs to, made if there is none."""
    from deployments.table.actor import get_or_create_table
    from deployments.table.remote import remote_table

    return remote_table(get_or_create_table())


def find_table() -> TableApi:
    """The table of the cluster that this process is connected to. Raises TableError where there is none."""
    import ray

    from deployments.table.remote import remote_table

    try:
        return remote_table(ray.get_actor(NAME, NAMESPACE))
    except ValueError as error:
        raise TableError(f"This cluster has no table '{NAME}'. Deploy FastServe first.") from error


def await_table(timeout_s: float) -> TableApi:
    """The same, once another process has made it: for one that need not hold the table's own code.

    Raises TableError at the timeout.
    """
    deadline_s = time.monotonic() + timeout_s
    while True:
        try:
            return find_table()
        except TableError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(_LOOK_S)
