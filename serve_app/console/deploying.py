"""Apply a config to the running cluster, wait, go back where it does not get healthy, keep the history."""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from deployments.table.connect import find_table
from deployments.table.errors import StorageUnavailableError, TableError
from serve_app.cluster_file.changes import changes
from serve_app.cluster_file.deploy_lock import BusyError, deploy_lock
from serve_app.cluster_file.history import Entry, entries, record
from serve_app.cluster_file.running import PoolError, apply_config, wait_until_running
from serve_app.console.errors import CommandError
from serve_app.console.local_pool import progress_bar
from serve_app.console.planning import who


def deploy(config: Mapping[str, Any], running: Mapping[str, Any], what: str, timeout_s: float) -> None:
    """Apply `config` to a cluster that runs `running`. Raises CommandError where it went back."""
    try:
        with deploy_lock(who()):
            _note(running, "found running", healthy=True, only_new=True)
            try:
                _apply(config, timeout_s)
            except PoolError as error:
                _note(config, what, healthy=False)
                _go_back(running, timeout_s, error)
            _note(config, what, healthy=True)
    except BusyError as error:
        raise CommandError(str(error)) from error


def _apply(config: Mapping[str, Any], timeout_s: float) -> None:
    names = [str(app["name"]) for app in config["applications"]]
    apply_config(config)
    with progress_bar(len(names)) as progress:
        wait_until_running(names, progress, timeout_s)


def _go_back(running: Mapping[str, Any], timeout_s: float, reason: PoolError) -> None:
    print("Not healthy: going back to the config before.", file=sys.stderr)
    try:
        _apply(running, timeout_s)
    except PoolError as error:
        raise CommandError(f"{reason} The config before does not run either: {error}") from error
    raise CommandError(f"{reason} The config before was applied again and runs.") from reason


def _note(config: Mapping[str, Any], what: str, healthy: bool, only_new: bool = False) -> None:
    """Write the history; where there is no table to write it to, that is said.

    `only_new`: what runs is the newest healthy entry already, unless somebody applied another by other means.
    """

    async def write() -> None:
        table = find_table()
        if not only_new or (config["applications"] and _is_new(await entries(table), config)):
            await record(table, who(), what, dict(config), healthy)

    try:
        asyncio.run(write())
    except (TableError, StorageUnavailableError) as error:
        if not only_new:
            print(f"The history has no entry for this: {error}", file=sys.stderr)


def _is_new(found: Sequence[Entry], config: Mapping[str, Any]) -> bool:
    healthy = [entry for entry in found if entry.healthy]
    if not healthy:
        return True
    return any(change.kind != "ignored" for change in changes(healthy[-1].config, config))
