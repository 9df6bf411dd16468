"""One thing that is wrong with a config file: where it stands and what to do about it."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

Place = tuple[str | int, ...]  # keys and list positions from the top of the file


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """`line` counts from 1, 0 where no line can be named; `path` is as in `applications[1].args.id`."""

    line: int
    path: str
    message: str

    def text(self, file: str) -> str:
        """`FILE:LINE: PATH: MESSAGE`, without the parts that are not known."""
        where = f"{file}:{self.line}" if self.line else file
        return f"{where}: {self.path}: {self.message}" if self.path else f"{where}: {self.message}"


def path_text(place: Place) -> str:
    """A place as people write it."""
    parts = [f"[{key}]" if isinstance(key, int) else f".{key}" for key in place]
    return "".join(parts).removeprefix(".")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The nearest known name as a question, else all of them."""
    names = sorted(known)
    nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean '{nearest[0]}'?" if nearest else f"known: {', '.join(names) or 'none'}."


def is_number(value: object) -> bool:
    """Whether a value of a file is a number; YAML's true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)
