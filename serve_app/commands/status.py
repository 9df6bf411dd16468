"""Say whether the cluster is well: applications, models, policy, table and store; exit code 1 if not."""

import argparse
import asyncio
import json
import sys
from typing import Any

from ray import serve
from rich.console import Console

from deployments.dispatch.columns import is_usable
from deployments.records.snapshot import Snapshot
from deployments.table.actor import RayTable, TableError
from serve_app.console.connection import CommandError, connect
from serve_app.console.rendering import status_page


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How it is shown."""
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument("--address", default="auto", help="Ray cluster (default: the one on this machine)")


def run(args: argparse.Namespace) -> int:
    """Prints the status; 1 if something is not well."""
    table = RayTable(connect(args.address))
    try:
        snapshot, core = asyncio.run(_read(table))
    except TableError as error:
        raise CommandError(str(error)) from error
    applications = {name: str(app.status.value) for name, app in serve.status().applications.items()}
    status = summarise(snapshot, core, applications)
    problems = problems_of(status)
    if args.json:
        print(json.dumps({**status, "problems": problems}))
    else:
        Console(width=None if sys.stdout.isatty() else 120).print(status_page(status, problems))
    return 1 if problems else 0


async def _read(table: RayTable) -> tuple[Snapshot, dict[str, Any]]:
    return await table.snapshot("", 0, 5.0), await table.status()


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
    return {"applications": applications, "models": models, "policy": dict(snapshot.policy), "table": core}


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
    return problems + list(store["alarms"])
