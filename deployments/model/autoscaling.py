"""How many replicas a model needs: policies that Serve calls, in its controller.

Serve applies bounds, factors and delays. It pickles them by value: they use nothing else of this project.
"""

import logging
import threading
import time
import weakref
from typing import Any, Final

from deployments.table.names import NAME, NAMESPACE

ONGOING_REQUESTS: Final = "deployments.model.autoscaling:ongoing_requests"
PLANNED_REPLICAS: Final = "deployments.model.autoscaling:PlannedReplicas"
SCALING_POLICY: Final = {"policy_function": ONGOING_REQUESTS}

_ASK_S: Final = 0.25  # between two questions to the table
_ANSWER_S: Final = 5.0
_KEPT_S: Final = 15.0  # an older answer of the table's counts no more
_SAY_S: Final = 30.0  # between two lines about a table that does not answer


def ongoing_requests(context: Any) -> tuple[float, dict[str, Any]]:
    """Replicas for the requests in the model, at `target_ongoing_requests` each.

    The requests reach replicas by HTTP, so Serve does not count them: `Model.record_autoscaling_stats` does.
    """
    by_replica = (context.aggregated_metrics or {}).get("ongoing", {})
    target = context.config.get_target_ongoing_requests()
    if not by_replica:
        return float(context.target_num_replicas), {}
    return sum(by_replica.values()) / target, {}


class PlannedReplicas:
    """Replicas as the table plans them: by predicted TTFT and what dispatch plans; none while a model sleeps.

    The controller must not wait, so a thread asks the table. While the table does not answer nothing changes.
    """

    def __init__(self, **settings: float) -> None:
        """`settings` are those of deployments.scaling.settings, which the table checks."""
        self._exchange = _Exchange(settings)

    def __call__(self, context: Any) -> tuple[float, dict[str, Any]]:
        """Serve's question, several times a second."""
        exchange = self._exchange
        exchange.asked = (
            context.app_name,
            context.current_num_replicas,
            context.capacity_adjusted_min_replicas,
            context.capacity_adjusted_max_replicas,
        )
        if exchange.thread is None:
            exchange.thread = threading.Thread(target=exchange.follow, name="planned replicas", daemon=True)
            exchange.thread.start()
            weakref.finalize(self, exchange.stop.set)  # another config has another policy
        if time.monotonic() - exchange.answered_s > _KEPT_S:
            return float(context.target_num_replicas), {}
        return float(exchange.wanted), {}


class _Exchange:
    """What the thread of a policy reads and writes; it does not keep the policy alive."""

    def __init__(self, settings: dict[str, float]) -> None:
        self.settings = settings
        self.asked: tuple[str, int, int, int] | None = None
        self.wanted, self.answered_s = 0, float("-inf")
        self.thread: threading.Thread | None = None
        self.stop = threading.Event()
        self._said_s = float("-inf")

    def follow(self) -> None:
        """Ask until the policy is gone."""
        while not self.stop.wait(_ASK_S):
            try:
                self.ask()
            except Exception as error:  # whatever Ray raises while the table is away
                self._say(error)

    def ask(self) -> None:
        """One question to the table."""
        import ray

        if self.asked is None:
            return
        app, running, least, most = self.asked
        table: Any = ray.get_actor(NAME, NAMESPACE)
        asking = table.replicas_wanted.remote(app, self.settings, running, least, most)
        self.wanted = ray.get(asking, timeout=_ANSWER_S)
        self.answered_s = time.monotonic()

    def _say(self, error: Exception) -> None:
        now_s = time.monotonic()
        if now_s - self._said_s > _SAY_S:
            self._said_s = now_s
            app = self.asked[0] if self.asked is not None else ""
            logging.getLogger("ray.serve").warning("Replicas of '%s' stay as they are: %s", app, error)
