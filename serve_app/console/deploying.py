"""Apply a config to the running cluster, wait, go back where it does not get healthy, keep the history."""

import asyncio
import sys
from collections.abc import Mapping
from typing import Any

from deployments.table.connect import find_table
from deployments.table.errors import StorageUnavailableError, TableError
from serve_app.cluster_file.deploy_lock import BusyError, deploy_lock
from serve_app.cluster_file.history import entries, record
from serve_app.cluster_file.running import PoolError, apply_config, wait_until_running
from serve_app.console.errors import CommandError
from serve_app.console.local_pool import progress_bar
from serve_app.console.planning import who


def deploy(config: Mapping[str, Any], running: Mapping[str, Any], what: str, timeout_s: float) -> None:
    """Apply `config` to a cluster that runs `running`. Raises CommandError where it went back."""
    try:
        with deploy_lock(who()):
            _note(running, "found running", healthy=True, only_first=True)
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


def _note(config: Mapping[str, Any], what: str, healthy: bool, only_first: bool = False) -> None:
    """Write the history; where there is no table to write it to, that is said."""

    async def write() -> None:
        table = find_table()
        if not only_first or (config["applications"] and not await entries(table)):
            await record(table, who(), what, dict(config), healthy)

    try:
        asyncio.run(write())
    except (TableError, StorageUnavailableError) as error:
        if not only_first:
            print(f"The history has no entry for this: {error}", file=sys.stderr)
