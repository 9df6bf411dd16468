"""What ends a command: a sentence for people and an exit code for scripts."""

from typing import Final

FAILED: Final = 1  # it failed, or what was looked at is not well
USAGE: Final = 2  # the command line cannot be used; click's own code
REFUSED: Final = 3  # the config file was refused; nothing was changed
UNREACHABLE: Final = 4  # no cluster could be reached
UNCONFIRMED: Final = 5  # nobody confirmed the change; nothing was changed
INTERRUPTED: Final = 130  # Ctrl-C


class CommandError(RuntimeError):
    """A command cannot do what was asked; the message says what to do about it."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code


class UnreachableError(CommandError):
    """No cluster could be reached."""

    def __init__(self, message: str) -> None:
        super().__init__(message, UNREACHABLE)
