"""The process that holds the code under test: it answers calls, and has nothing else to give or to take.

Standard library only. Messages in: ["code", text], ["call", function or [handle, method], arguments,
keywords], ["get", handle, attribute]. Out: ["names", functions, values], ["value", result, arguments as the
call left them], ["error", exception's name, text].
"""

# Much is imported only so that it is loaded before the doors are shut: some modules link against libraries
# outside Python's own folder.
import bisect  # noqa: F401
import collections  # noqa: F401
import copy  # noqa: F401
import dataclasses  # noqa: F401
import datetime  # noqa: F401
import decimal  # noqa: F401
import fractions  # noqa: F401
import functools  # noqa: F401
import hashlib  # noqa: F401
import heapq  # noqa: F401
import itertools  # noqa: F401
import json
import math  # noqa: F401
import os
import random  # noqa: F401
import re  # noqa: F401
import statistics  # noqa: F401
import string  # noqa: F401
import sys
import typing  # noqa: F401
import zlib  # noqa: F401
from typing import Any

from deployments.suites.sandbox.lockdown import lock
from deployments.suites.sandbox.wire import Line, WireError, decode, encode


class Guest:
    """The namespace of the code under test, and the objects that it has handed out."""

    def __init__(self) -> None:
        self.namespace: dict[str, Any] = {"__name__": "__candidate__"}
        self._objects: list[Any] = []

    def keep(self, value: Any) -> int:
        """The handle of an object that stays here."""
        self._objects.append(value)
        return len(self._objects) - 1

    def answer(self, message: list[Any]) -> list[Any]:
        """The reply to one message; whatever the code raises is part of it."""
        try:
            return self._answer(message)
        except BaseException as error:  # SystemExit too: leaving early is no result
            return ["error", type(error).__name__, str(error)[:200]]

    def _answer(self, message: list[Any]) -> list[Any]:
        kind = message[0]
        if kind == "code":
            exec(compile(message[1], "answer", "exec"), self.namespace)
            return self._names()
        if kind == "get":
            return ["value", encode(getattr(self._objects[message[1]], message[2]), self.keep), ["l"]]
        target, arguments, keywords = message[1:]
        function = self._function(target)
        values = decode(arguments, self._object)
        result = function(*values, **decode(keywords, self._object))
        return ["value", encode(result, self.keep), encode(values, self.keep)]

    def _function(self, target: Any) -> Any:
        if isinstance(target, str):
            return self.namespace[target]
        value, name = self._objects[target[0]], target[1]
        return value if name == "__call__" else getattr(value, name)

    def _object(self, handle: int) -> Any:
        return self._objects[handle]

    def _names(self) -> list[Any]:
        functions, values = [], {}
        for name, value in self.namespace.items():
            if name.startswith("__"):
                continue
            if callable(value):
                functions.append(name)
                continue
            try:
                values[name] = encode(value)
            except (WireError, RecursionError):  # a module or another thing that tests cannot compare
                continue
        return ["names", functions, values]


def main() -> None:
    """Shut the doors, then serve the judge at the other end of stdin and stdout until it hangs up."""
    limits = json.loads(sys.argv[1])
    writing, nothing = os.dup(1), os.open(os.devnull, os.O_RDWR)
    for descriptor in (1, 2):
        os.dup2(nothing, descriptor)
    sys.setrecursionlimit(2000)
    lock(limits, (1, 2, writing))
    sys.path[:] = [path for path in sys.path if path.startswith(sys.base_prefix)]
    line, guest = Line(0, writing), Guest()
    while True:
        message = line.receive()
        try:
            line.send(guest.answer(message))
        except (WireError, RecursionError, ValueError):
            line.send(["error", "ValueError", "the result is too large"])
