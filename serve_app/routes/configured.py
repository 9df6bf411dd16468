"""Models that the cluster's config names and that no replica has spoken for yet: cold, not unknown."""

import asyncio
from collections.abc import Callable
from typing import Final

from deployments.logger import get_logger
from deployments.records.snapshot import app_name

logger = get_logger(__name__)

PERIOD_S: Final = 3.0  # between two questions to Serve's controller


class ConfiguredModels:
    """The apps that Serve was told to run, as they were a few seconds ago."""

    def __init__(self, apps: Callable[[], frozenset[str]] = frozenset) -> None:
        """`apps` gives the names of the apps that are not being deleted; it may take a while."""
        self._apps = apps
        self._names: frozenset[str] = frozenset()

    async def refresh(self) -> None:
        """Ask again, off the loop; while Serve does not answer, what was known stays."""
        try:
            self._names = await asyncio.to_thread(self._apps)
        except Exception as error:  # whatever it raises while its controller is away
            logger.warning("Serve does not say which apps it has: %s", error)

    def lacks(self, model: str) -> bool:
        """Whether Serve has said which apps it has, and none is this model's."""
        return bool(self._names) and model not in self

    def __contains__(self, model: object) -> bool:
        return isinstance(model, str) and app_name(model) in self._names


def serve_apps() -> frozenset[str]:
    """The apps of this cluster that are not being deleted.

    By Serve's client: `serve.status()` builds every deployment's whole schema anew, which takes 30 times as
    long and would be the largest part of what an idle ingress does.
    """
    from ray.serve.context import _get_global_client
    from ray.serve.schema import ApplicationStatus

    client = _get_global_client()
    assert client is not None  # it raises where there is no controller
    found = client.list_serve_statuses()
    return frozenset(app.name for app in found if app.app_status.status is not ApplicationStatus.DELETING)
