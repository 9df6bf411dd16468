"""Show the performance table: what the dispatcher knows of each model and replica."""

import argparse
import asyncio
import sys

import msgspec
from rich.console import Console
from rich.live import Live

from deployments.records.snapshot import Snapshot
from deployments.table.actor import RayTable, TableError
from serve_app.console.connection import CommandError, connect
from serve_app.console.rendering import table_page

WIDTH = 180  # of a table that is not shown in a terminal


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is shown, and how."""
    parser.add_argument("--watch", action="store_true", help="follow changes until interrupted")
    parser.add_argument("--json", action="store_true", help="the whole snapshot as JSON, one line each")
    parser.add_argument("--replicas", action="store_true", help="show replicas too")
    parser.add_argument("--tasks", action="store_true", help="show accuracy by task too")
    parser.add_argument("--address", default="auto", help="Ray cluster (default: the one on this machine)")


def run(args: argparse.Namespace) -> int:
    """Prints the table once, or until interrupted."""
    table = RayTable(connect(args.address))
    try:
        asyncio.run(_watch(table, args) if args.watch else _once(table, args))
    except TableError as error:
        raise CommandError(str(error)) from error
    except KeyboardInterrupt:
        return 0
    return 0


def to_json(snapshot: Snapshot) -> str:
    """The snapshot on one line; what was never measured is null."""
    return msgspec.json.encode(snapshot).decode()


def _console() -> Console:
    return Console() if sys.stdout.isatty() else Console(width=WIDTH)


async def _once(table: RayTable, args: argparse.Namespace) -> None:
    snapshot = await table.snapshot("", 0, 5.0)
    if args.json:
        print(to_json(snapshot))
    else:
        _console().print(table_page(snapshot, args.replicas, args.tasks))


async def _watch(table: RayTable, args: argparse.Namespace) -> None:
    snapshot = await table.snapshot("", 0, 5.0)
    if args.json:
        while True:
            print(to_json(snapshot), flush=True)
            snapshot = await table.snapshot(snapshot.boot_id, snapshot.version, 5.0)
    with Live(console=_console(), auto_refresh=False, screen=sys.stdout.isatty()) as live:
        while True:
            live.update(table_page(snapshot, args.replicas, args.tasks), refresh=True)
            await asyncio.sleep(0.2)
            snapshot = await table.snapshot(snapshot.boot_id, snapshot.version, 5.0)
