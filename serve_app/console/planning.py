"""A config file against the running cluster: checked, compared, and shown before anything is changed."""

import getpass
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from deployments.home import key_file
from serve_app.cluster_file.applications import ENDPOINT, MODEL, apps_of
from serve_app.cluster_file.changes import Change, changes, removes_service
from serve_app.cluster_file.demand import demand, shortages
from serve_app.cluster_file.document import Document, FileError
from serve_app.cluster_file.validation import validated
from serve_app.console.errors import REFUSED, CommandError


@dataclass(frozen=True, slots=True)
class Plan:
    """What a deployment would do. `warnings` are what it would run into."""

    running: Mapping[str, Any]
    changes: tuple[Change, ...]
    warnings: tuple[str, ...]
    removes_service: bool

    def text(self) -> str:
        """All of it for people."""
        shown = [line for one in self.changes for line in one.lines()]
        shown += [f"Warning: {warning}" for warning in self.warnings]
        return "\n".join(shown or ["Nothing changes."])

    def document(self) -> dict[str, Any]:
        """All of it as JSON."""
        return {"changes": [asdict(one) for one in self.changes], "warnings": list(self.warnings)}


def checked(path: Path, engine_flags: bool) -> Document:
    """A valid config file. Raises CommandError that names every problem."""
    try:
        return validated(path, engine_flags, key_file())
    except FileError as error:
        lines = "\n  ".join(problem.text(str(path)) for problem in error.problems)
        raise CommandError(f"the file is refused, and nothing was changed:\n  {lines}", REFUSED) from error


def make_plan(document: Document, running: Mapping[str, Any], resources: Mapping[str, float]) -> Plan:
    """What a valid file would change in a cluster that runs this config and has these resources."""
    return Plan(
        running,
        tuple(changes(running, document.values)),
        tuple(shortages(demand(apps_of(document)), resources)),
        any(removes_service(running, document.values, builder) for builder in (ENDPOINT, MODEL)),
    )


def planned(path: Path, engine_flags: bool, address: str) -> tuple[Document, Plan]:
    """A valid config file, and what it would change in the cluster at `address`. Raises CommandError."""
    import ray

    from serve_app.cluster_file.running import running_config
    from serve_app.console.connection import join

    document = checked(path, engine_flags)
    join(address)
    return document, make_plan(document, running_config(), ray.cluster_resources())


def who() -> str:
    """The user and the machine, for the history."""
    return f"{getpass.getuser()}@{socket.gethostname()}"
