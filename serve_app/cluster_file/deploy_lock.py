"""One deployment at a time: an actor that lives as long as the process that deploys."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import ray

from deployments.table.names import NAMESPACE

NAME: Final = "fastserve:deploy"


class BusyError(RuntimeError):
    """Somebody else deploys; the message says who."""


class Holder:
    """Who deploys now."""

    def __init__(self, who: str) -> None:
        self._who = who

    def who(self) -> str:
        """User and machine."""
        return self._who


@contextmanager
def deploy_lock(who: str) -> Iterator[None]:
    """Hold the cluster's lock; it ends with this process too. Raises BusyError."""
    kind: Any = ray.remote(Holder).options(name=NAME, namespace=NAMESPACE, num_cpus=0)
    try:
        holder = kind.remote(who)
    except ValueError as error:
        raise BusyError(f"{_holder()} deploys now: wait until that has ended.") from error
    try:
        ray.get(holder.who.remote())
        yield
    finally:
        ray.kill(holder)


def _holder() -> str:
    try:
        return str(ray.get(ray.get_actor(NAME, NAMESPACE).who.remote(), timeout=5.0))
    except (ValueError, ray.exceptions.RayError):
        return "Somebody"
