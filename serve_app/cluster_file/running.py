"""The config of a running Serve: read it, apply another, wait until it runs."""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from deployments.bound_versions import VersionError, require_version

FAILED_STATES: Final = frozenset({"DEPLOY_FAILED", "UNHEALTHY"})
Progress = Callable[[int, str], None]  # how many applications run, and the names of the others


class PoolError(RuntimeError):
    """The pool did not come up; the message names the application and Serve's reason."""


def running_config() -> dict[str, Any]:
    """The config that Serve holds now, its applications as they were given; no applications without Serve."""
    from ray.serve.context import _get_global_client

    client = _get_global_client(raise_if_no_controller_running=False)
    if client is None:
        return {"applications": []}
    details = client.get_serve_details()
    deployed = (app.get("deployed_app_config") for app in details["applications"].values())
    return {
        **{key: details[key] for key in ("http_options", "proxy_location") if details.get(key)},
        "applications": [app for app in deployed if app],
    }


def apply_config(config: Mapping[str, Any]) -> None:
    """Apply a Serve config, as `serve deploy` does; apps that are missing from it are removed.

    Raises PoolError for a version of Ray that this code does not know.
    """
    import ray
    from ray.serve._private import api
    from ray.serve.schema import ServeDeploySchema

    try:
        require_version("ray", ray.__version__)
    except VersionError as error:
        raise PoolError(str(error)) from error
    schema = ServeDeploySchema.model_validate(config)
    client = api.serve_start(
        http_options=schema.http_options.model_dump(),
        proxy_location=schema.proxy_location,
        controller_options=schema.controller_options,
    )
    client.deploy_apps(schema, _blocking=False)


def wait_until_running(names: Iterable[str], progress: Progress, timeout_s: float) -> None:
    """Block until every application runs. Raises PoolError on a failed one or at the timeout."""
    from ray import serve

    awaited = tuple(names)
    deadline_s = time.monotonic() + timeout_s
    while True:
        applications = serve.status().applications
        states = {name: str(app.status.value) for name, app in applications.items()}
        for name in awaited:
            if states.get(name) in FAILED_STATES:
                raise PoolError(f"Application '{name}' is {states[name]}: {applications[name].message}")
        waiting = [name for name in awaited if states.get(name) != "RUNNING"]
        progress(len(awaited) - len(waiting), ", ".join(waiting))
        if not waiting:
            return
        if time.monotonic() > deadline_s:
            raise PoolError(f"Applications {waiting} do not run after {timeout_s:.0f} s: {states}.")
        time.sleep(0.5)
