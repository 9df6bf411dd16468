"""Whether the cluster is well: what `fastserve status` shows, and what it finds wrong."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from deployments.dispatch.columns import is_usable
from deployments.records.snapshot import Snapshot


def reasons_of(applications: Mapping[str, Any]) -> dict[str, str]:
    """Why an application does not run: the last line of what Serve says of a deployment that is not well.

    `applications` is as `serve.status()` has it. Serve's message ends with the exception of a failed replica.
    """
    reasons = {}
    for name, app in applications.items():
        told = [one.message for one in app.deployments.values() if one.status.value != "HEALTHY"]
        lines = next((text for text in (*told, app.message) if text.strip()), "").strip().splitlines()
        if app.status.value != "RUNNING" and lines:
            reasons[name] = lines[-1].strip()
    return reasons


def summarise(
    snapshot: Snapshot,
    core: dict[str, Any],
    applications: dict[str, str],
    reasons: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """What is shown and judged, JSON-able."""
    models = {
        name: {
            "replicas": len(row.replicas),
            "ready_in_s": row.ready_in_s,
            "usable": sum(is_usable(replica, snapshot.taken_at_s) for replica in row.replicas),
            "requests": row.requests,
            "error_rate": row.error_rate,
        }
        for name, row in snapshot.models.items()
    }
    return {
        "applications": applications,
        "reasons": dict(reasons or {}),
        "models": models,
        "policy": asdict(snapshot.rollout),
        "table": core,
    }


def problems_of(status: dict[str, Any]) -> list[str]:
    """What is not well, in words; empty if all is."""
    problems = [
        f"Application '{name}' is {state}"
        + (f": {status['reasons'][name]}" if name in status["reasons"] else ".")
        for name, state in status["applications"].items()
        if state != "RUNNING"
    ]
    problems += [
        f"Model '{n}' has no usable replica."
        for n, m in status["models"].items()
        if not m["usable"] and not m["ready_in_s"]
    ]
    if not status["applications"]:
        problems.append("No Serve application runs.")
    if keys := status["table"]["keys"]["problem"]:
        problems.append(f"No API key is accepted: {keys}")
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
