"""SIGTERM to a replica: it leaves as if Serve had stopped it, then its process ends. Bound to Ray 2.60.

Ray's own handler ends the process at once, and with it every stream. It runs in the main thread, where no
other thread can put another in its place: so what it calls is replaced.
"""

import os
import signal
import threading
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

from deployments.logger import get_logger

logger = get_logger(__name__)

EXIT: Final = "raise_sys_exit_with_custom_error_message"  # what Ray's handler calls


class Draining:
    """What Ray's handler of SIGTERM calls: the first time it only begins to leave."""

    def __init__(
        self, leave: Callable[[], None], exit_now: Callable[..., None], end: Callable[[], None]
    ) -> None:
        """`leave` blocks until the replica has left; `end` asks for the process's end once more."""
        self._leave, self._exit_now, self._end = leave, exit_now, end
        self._begun, self._has_left = False, False

    def __call__(self, message: str, exit_code: int = 0) -> None:
        """Return at once while the replica leaves; exit when it has left."""
        if self._has_left:
            self._exit_now(message, exit_code=exit_code)
        if not self._begun:
            self._begun = True
            threading.Thread(target=self._run, name="drain", daemon=True).start()

    def _run(self) -> None:
        try:
            self._leave()
        except Exception:  # the process ends, whatever was left undone
            logger.exception("SIGTERM: this replica could not leave in order.")
        self._has_left = True
        self._end()


def drain_on_sigterm(limit_s: float) -> None:
    """To be called in a replica's constructor: SIGTERM stops it as Serve does, within `limit_s`."""
    import ray

    actor: Any = ray.get_runtime_context().current_actor

    def leave() -> None:
        logger.warning("SIGTERM: this replica leaves, and its streams have up to %g s.", limit_s)
        ray.get(actor.perform_graceful_shutdown.remote(), timeout=limit_s)

    leave_on_sigterm(leave)


def leave_on_sigterm(leave: Callable[[], None]) -> None:
    """SIGTERM calls `leave`, in a thread of its own, and ends the process when that has returned."""
    worker: Any = import_module("ray._private.worker")
    exit_now = getattr(worker, EXIT)
    setattr(worker, EXIT, Draining(leave, exit_now, lambda: os.kill(os.getpid(), signal.SIGTERM)))
