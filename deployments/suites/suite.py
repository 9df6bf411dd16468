"""Suites: JSONL files of gradable items, checked on load so that an error names the file and the line."""

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from deployments.suites import graders
from deployments.suites.item import Item, language_of

MAX_LINE_BYTES: Final = 1 << 20
MAX_TOKENS: Final = 32_768
_KNOWN: Final = frozenset(
    {"task", "prompt", "messages", "answer", "grader", "max_tokens", "profile", "choices", "id", "language"}
)


class SuiteError(ValueError):
    """A suite that cannot be used; the message begins with the file and the line."""


@dataclass(frozen=True, slots=True)
class Suite:
    """A named set of items; `revision` changes when any question or right answer does."""

    name: str
    revision: str
    items: tuple[Item, ...]

    def tasks(self) -> tuple[str, ...]:
        """The tasks in their order of appearance."""
        return tuple(dict.fromkeys(item.task for item in self.items))


def load_suite(path: Path) -> Suite:
    """The suite in a `.jsonl` or `.jsonl.gz` file, named after the file. Raises SuiteError."""
    items: dict[str, Item] = {}
    lines: dict[str, int] = {}
    for number, line in _lines(path):
        where = f"{path}:{number}"
        try:
            item = parse_item(json.loads(line))
        except RecursionError:
            raise SuiteError(f"{where}: nested too deeply.") from None
        except ValueError as error:
            raise SuiteError(f"{where}: {error}") from error
        if item.id in items:
            raise SuiteError(f"{where}: item '{item.id}' is already on line {lines[item.id]}.")
        items[item.id], lines[item.id] = item, number
    if not items:
        raise SuiteError(f"{path}: no items.")
    digests = sorted(f"{item.id} {item.digest()}" for item in items.values())
    revision = hashlib.sha256("\n".join(digests).encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return Suite(_name(path), revision, tuple(items.values()))


def parse_item(row: object) -> Item:
    """The item in one decoded line. Raises ValueError that names the field at fault."""
    if not isinstance(row, dict):
        raise ValueError("An item must be a JSON object.")
    item = Item(
        id="",
        task=_text(row, "task"),
        messages=_messages(row),
        answer=_required(row, "answer"),
        grader=_text(row, "grader"),
        max_tokens=_max_tokens(row),
        profile=_text(row, "profile") if row.get("profile") else "",
        choices=_choices(row),
        extra={key: value for key, value in row.items() if key not in _KNOWN},
    )
    graders.check(item)
    language = _text(row, "language") if row.get("language") else language_of(_dialogue(item))
    return replace(item, language=language, id=str(row["id"]) if row.get("id") else item.digest())


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    number = 0
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
        try:
            while line := file.readline(MAX_LINE_BYTES + 1):
                number += 1
                if len(line) > MAX_LINE_BYTES:
                    raise SuiteError(f"{path}:{number}: longer than {MAX_LINE_BYTES} bytes.")
                if line.strip():
                    yield number, line.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise SuiteError(f"{path}:{number}: not UTF-8: {error.reason}.") from error
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise SuiteError(
                f"{path}:{number + 1}: the gzip file is damaged or incomplete: {error}."
            ) from error


def _name(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".jsonl")


def _required(row: Mapping[str, Any], key: str) -> Any:
    if key not in row:
        raise ValueError(f"'{key}' is missing.")
    return row[key]


def _text(row: Mapping[str, Any], key: str) -> str:
    value = _required(row, key)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"'{key}' must be a text that is not empty.")
    return value


def _max_tokens(row: Mapping[str, Any]) -> int:
    value = _required(row, "max_tokens")
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_TOKENS:
        raise ValueError(f"'max_tokens' must be a whole number from 1 to {MAX_TOKENS}.")
    return value


def _choices(row: Mapping[str, Any]) -> tuple[str, ...]:
    value = row.get("choices") or []
    if not isinstance(value, list) or not all(isinstance(choice, str) and choice.strip() for choice in value):
        raise ValueError("'choices' must be a list of texts.")
    return tuple(value)


def _messages(row: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    if ("prompt" in row) == ("messages" in row):
        raise ValueError("Give either 'prompt' or 'messages'.")
    if "prompt" in row:
        return ({"role": "user", "content": _text(row, "prompt")},)
    messages = row["messages"]
    if not isinstance(messages, list) or not messages:
        raise ValueError("'messages' must be a list that is not empty.")
    for message in messages:
        if (
            not isinstance(message, dict)
            or not isinstance(message.get("role"), str)
            or "content" not in message
        ):
            raise ValueError("Each of 'messages' must have 'role' and 'content'.")
    return tuple(messages)


def _dialogue(item: Item) -> str:
    return "\n".join(str(message["content"]) for message in item.messages)
