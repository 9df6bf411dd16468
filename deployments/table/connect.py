"""How a process of the cluster reaches the table.

Ray is imported only when a function is called: it reads its environment at import, and some callers
set that first.
"""

from deployments.table.api import TableApi
from deployments.table.errors import TableError


def join_table() -> TableApi:
    """The table of the cluster that this process belongs to, made if there is none."""
    from deployments.table.actor import get_or_create_table
    from deployments.table.remote import remote_table

    return remote_table(get_or_create_table())


def find_table() -> TableApi:
    """The table of the cluster that this process is connected to. Raises TableError where there is none."""
    import ray

    from deployments.table.actor import NAME, NAMESPACE
    from deployments.table.remote import remote_table

    try:
        return remote_table(ray.get_actor(NAME, NAMESPACE))
    except ValueError as error:
        raise TableError(f"This cluster has no table '{NAME}'. Deploy FastServe first.") from error
