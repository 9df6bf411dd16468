"""How many replicas a model needs: a policy that Serve calls with what the replicas recorded."""

from typing import Any


def ongoing_requests(context: Any) -> tuple[float, dict[str, Any]]:
    """Replicas for the requests in the model, at `target_ongoing_requests` each.

    The requests reach replicas by HTTP, so Serve does not count them: `Model.record_autoscaling_stats` does.
    Serve applies bounds, factors and delays. It is pickled by value: it uses nothing else of this project.
    """
    by_replica = (context.aggregated_metrics or {}).get("ongoing", {})
    target = context.config.get_target_ongoing_requests()
    if not by_replica:
        return float(context.target_num_replicas), {}
    return sum(by_replica.values()) / target, {}
