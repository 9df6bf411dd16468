"""The config that Serve runs now, as the dashboard reads and changes it."""

import asyncio
import copy
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from deployments.dispatch.settings import DispatchSettings
from deployments.learning.settings import LearnerSettings
from serve_app.cluster_file.deploy_lock import BusyError, deploy_lock
from serve_app.cluster_file.running import apply_config, running_config
from serve_app.config import IngressSettings
from serve_app.http.errors import ApiError

Config = dict[str, Any]


class Pool(Protocol):
    """What the dashboard needs of the pool beside its table."""

    async def config(self) -> Config:
        """The config that runs now."""

    async def apply(self, config: Config, who: str) -> None:
        """Apply a config in the name of `who`. Raises ApiError (409) while somebody else deploys."""


class ServePool:
    """The pool of this Serve."""

    async def config(self) -> Config:
        """See Pool."""
        return await asyncio.to_thread(running_config)

    async def apply(self, config: Config, who: str) -> None:
        """See Pool."""
        await asyncio.to_thread(_apply, config, who)


def _apply(config: Config, who: str) -> None:
    try:
        with deploy_lock(who):
            apply_config(config)
    except BusyError as error:
        raise ApiError(409, str(error), code="busy") from error


def dispatch_of(config: Mapping[str, Any]) -> DispatchSettings:
    """The settings of dispatch that run; the defaults where the config names none."""
    return IngressSettings.model_validate(_user_config(config, "Ingress")).dispatch


def learner_of(config: Mapping[str, Any]) -> LearnerSettings:
    """The settings of the Learner that run; the defaults where the config names none."""
    return LearnerSettings.model_validate(_user_config(config, "Learner"))


def with_dispatch(config: Config, edit: Callable[[dict[str, Any]], None]) -> Config:
    """A copy whose settings of dispatch are edited. Raises ApiError (400, 409) for what is refused."""
    changed = copy.deepcopy(config)
    entry = _entry(changed, "Ingress")
    if entry is None:
        raise ApiError(409, "The running config has no entry for deployment 'Ingress': add one to its file.")
    user_config = entry["user_config"] = dict(entry.get("user_config") or {})
    dispatch = user_config["dispatch"] = dict(user_config.get("dispatch") or {})
    edit(dispatch)
    try:
        IngressSettings.model_validate(user_config)
    except ValueError as error:
        raise ApiError(400, f"The pool would refuse this: {error}", code="invalid_value") from error
    return changed


def _user_config(config: Mapping[str, Any], deployment: str) -> dict[str, Any]:
    return (_entry(config, deployment) or {}).get("user_config") or {}


def _entry(config: Mapping[str, Any], deployment: str) -> dict[str, Any] | None:
    for app in config.get("applications") or ():
        for entry in app.get("deployments") or ():
            if entry.get("name") == deployment:
                return entry
    return None
