"""Where internal callers find the endpoint: at any ingress replica that the table knows to be alive."""

import random

from deployments.evaluation.client import TransientError
from deployments.records.snapshot import Snapshot


def live_endpoint(configured: str | None, snapshot: Snapshot | None) -> str:
    """The URL without /v1: the configured one, else another live ingress replica's each time.

    Raises TransientError where none is known now.
    """
    if configured:
        return configured
    known = list(snapshot.ingresses.values()) if snapshot is not None else []
    if not known:
        raise TransientError(
            "The table knows no ingress replica that is alive and has said where it listens."
        )
    return random.choice(known)
