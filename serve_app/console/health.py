"""Whether the cluster is well: what `fastserve status` shows, and what it finds wrong."""

from dataclasses import asdict
from typing import Any

from deployments.dispatch.columns import is_usable
from deployments.records.snapshot import Snapshot


def summarise(snapshot: Snapshot, core: dict[str, Any], applications: dict[str, str]) -> dict[str, Any]:
    """What is shown and judged, JSON-able."""
    models = {
        name: {
            "replicas": len(row.replicas),
            "usable": sum(is_usable(replica, snapshot.taken_at_s) for replica in row.replicas),
            "requests": row.requests,
            "error_rate": row.error_rate,
        }
        for name, row in snapshot.models.items()
    }
    return {"applications": applications, "models": models, "policy": asdict(snapshot.rollout), "table": core}


def problems_of(status: dict[str, Any]) -> list[str]:
    """What is not well, in words; empty if all is."""
    problems = [
        f"Application '{name}' is {state}."
        for name, state in status["applications"].items()
        if state != "RUNNING"
    ]
    problems += [
        f"Model '{n}' has no usable replica." for n, m in status["models"].items() if not m["usable"]
    ]
    if not status["applications"]:
        problems.append("No Serve application runs.")
    store = status["table"]["store"]
    if store["error"]:
        problems.append(f"The store takes no writes: {store['error']}.")
    elif not store["leads"]:
        problems.append(
            f"Policy state is written by another cluster on this store, {store['writer']}; this one waits."
        )
    if store["unreadable"]:
        count = store["unreadable"]
        problems.append(
            f"{count} records of the store open with no key of the key file: learning leaves them out."
        )
    return problems + list(store["alarms"])
