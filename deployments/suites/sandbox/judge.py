"""The process that runs an item's tests. The code under test is in another process, behind a wire.

The verdict is written here, on a file descriptor that the other process does not have. Standard library only.
"""

import builtins
import json
import os
import sys
from collections.abc import Iterator
from typing import Any

from deployments.suites.sandbox.lockdown import lock
from deployments.suites.sandbox.wire import Line, WireError, decode, encode


class Guest:
    """The far side: calls functions there, and brings back plain data or a Remote."""

    def __init__(self, line: Line) -> None:
        self._line = line

    def load(self, code: str) -> dict[str, Any]:
        """Run the code there; the names that tests may use: its functions and its plain values."""
        kind, functions, values = self._ask(["code", code])
        if kind != "names":
            raise WireError("not the names")
        names: dict[str, Any] = {name: self._function(str(name)) for name in functions}
        return names | {str(name): decode(value, self._remote) for name, value in values.items()}

    def call(self, target: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """The result. Lists, sets and dictionaries among the arguments change as the call changed them."""
        message = ["call", target, encode(list(arguments), _handle), encode(keywords, _handle)]
        _, result, changed = self._ask(message)
        for argument, value in zip(arguments, decode(changed, self._remote), strict=False):
            _become(argument, value)
        return decode(result, self._remote)

    def get(self, handle: int, name: str) -> Any:
        """An attribute of an object there."""
        return decode(self._ask(["get", handle, name])[1], self._remote)

    def _ask(self, message: list[Any]) -> list[Any]:
        self._line.send(message)
        reply = self._line.receive()
        if reply[0] == "error":
            kind = getattr(builtins, str(reply[1]), None)
            if not (isinstance(kind, type) and issubclass(kind, BaseException)):
                kind = RuntimeError
            raise kind(str(reply[2]))
        if len(reply) != 3:
            raise WireError("not a reply")
        return reply

    def _function(self, name: str) -> Any:
        return lambda *arguments, **keywords: self.call(name, arguments, keywords)

    def _remote(self, handle: int) -> "Remote":
        return Remote(self, handle)


class Remote:
    """An object that stays with the code under test, such as an instance of its class."""

    def __init__(self, guest: Guest, handle: int) -> None:
        self._guest = guest
        self._handle = handle

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._guest.get(self._handle, name)

    def _call(self, name: str, *arguments: Any, **keywords: Any) -> Any:
        return self._guest.call([self._handle, name], arguments, keywords)

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return self._call("__call__", *arguments, **keywords)

    def __len__(self) -> int:
        return int(self._call("__len__"))

    def __getitem__(self, key: Any) -> Any:
        return self._call("__getitem__", key)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._call("__setitem__", key, value)

    def __contains__(self, value: Any) -> bool:
        return bool(self._call("__contains__", value))

    def __iter__(self) -> Iterator[Any]:
        iterator = self._call("__iter__")
        while True:
            try:
                yield iterator._call("__next__")
            except StopIteration:
                return

    def __next__(self) -> Any:
        return self._call("__next__")

    def __str__(self) -> str:
        return str(self._call("__str__"))

    def __repr__(self) -> str:
        return str(self._call("__repr__"))


def _handle(value: Any) -> int:
    if isinstance(value, Remote):
        return value._handle
    raise WireError(f"An object of type '{type(value).__name__}' cannot be handed to the code under test.")


def _become(argument: Any, value: Any) -> None:
    """Change a container in place, as the call on its copy did."""
    if type(argument) is not type(value) or argument == value:
        return
    if isinstance(argument, list):
        argument[:] = value
    elif isinstance(argument, dict | set):
        argument.clear()
        argument.update(value)


def verdict(job: dict[str, str], guest: Guest) -> str:
    """'passed', 'killed' where the code under test is no more, else what went wrong by its name."""
    try:
        namespace: dict[str, Any] = {"__name__": "__tests__", **guest.load(job["code"])}
        exec(compile(job["test"], "test", "exec"), namespace)
        if job["entry_point"]:
            namespace["check"](namespace[job["entry_point"]])
    except WireError as error:
        return "killed" if str(error) == "gone" else f"failed: {error}"[:200]
    except BaseException as error:  # SystemExit too: leaving early is no pass
        return f"failed: {type(error).__name__}"[:200]
    return "passed"


def main() -> None:
    """Arguments: limits, the descriptors to hear and to tell the guest, and the one for the verdict."""
    limits = json.loads(sys.argv[1])
    hearing, telling, result = (int(number) for number in sys.argv[2:5])
    job = json.load(sys.stdin)
    sys.setrecursionlimit(2000)
    lock(limits, (telling, result))
    sys.path[:] = [path for path in sys.path if path.startswith(sys.base_prefix)]
    os.write(result, verdict(job, Guest(Line(hearing, telling))).encode())
    os._exit(0)
