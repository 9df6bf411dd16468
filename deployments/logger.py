"""The one way to get a logger."""

import logging


def get_logger(module: str) -> logging.Logger:
    """The logger of a module; call it with `__name__`.

    Below `ray.serve`, because Ray Serve writes only that logger and its children to the log file of each
    replica, at the level that its config names. Elsewhere (a command, the table's actor, a test) a child of
    `ray.serve` behaves like any other logger.
    """
    return logging.getLogger(f"ray.serve.{module}")
