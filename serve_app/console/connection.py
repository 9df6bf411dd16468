"""How a command reaches the performance table of a running cluster."""

import logging
from typing import Any

import ray

from deployments.table.actor import NAME, NAMESPACE


class CommandError(RuntimeError):
    """A command cannot do what was asked; the message says what to do about it."""


def connect(address: str) -> Any:
    """The table's actor. Raises CommandError where there is no cluster or no table in it."""
    try:
        ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.ERROR)
    except ConnectionError as error:
        raise CommandError(f"No Ray cluster at '{address}'. Start one, or give --address.") from error
    try:
        return ray.get_actor(NAME, NAMESPACE)
    except ValueError as error:
        raise CommandError(f"No table '{NAME}' in this cluster. Deploy FastServe first.") from error
