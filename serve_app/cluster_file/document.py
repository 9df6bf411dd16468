"""A config file as text and values; one that is hostile or broken is refused before it is interpreted."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from serve_app.cluster_file.problem import Place, Problem, path_text

MAX_BYTES: Final = 1 << 20
MAX_NODES: Final = 100_000  # values, those behind an alias counted each time it is used
_YAML: Final = "tag:yaml.org,2002:"
_PLAIN: Final = frozenset(
    f"{_YAML}{name}" for name in ("map", "seq", "str", "int", "float", "bool", "null", "merge")
)


class FileError(ValueError):
    """A file that cannot be used at all; `problems` say why."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(problem.text("config") for problem in problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Document:
    """A file's text, its values, and the line of each place in it."""

    text: str
    values: dict[str, Any]
    lines: dict[Place, int]

    def problem(self, place: Place, message: str) -> Problem:
        """A problem at a place, with the line of the nearest place above it that the file has."""
        known = place
        while known and known not in self.lines:
            known = known[:-1]
        return Problem(self.lines.get(known, 0), path_text(place), message)


def read_document(path: Path) -> Document:
    """The file's content. Raises FileError."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise FileError([Problem(0, "", f"cannot be read ({error.strerror}): name a file.")]) from error
    return parse_document(data)


def parse_document(data: bytes) -> Document:
    """The content of a file's bytes. Raises FileError; no tag is ever followed and no code is run."""
    if len(data) > MAX_BYTES:
        raise _refused(f"has more than {MAX_BYTES} bytes: a config is far smaller.")
    try:
        text = data.decode("utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except UnicodeDecodeError as error:
        raise _refused(f"is not UTF-8 (byte {error.start}): save it as UTF-8.") from error
    except yaml.MarkedYAMLError as error:
        raise _refused(_yaml_text(error), _line(error)) from error
    except yaml.YAMLError as error:
        raise _refused(f"is not YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise _refused("is nested too deeply.") from error
    if not isinstance(node, yaml.MappingNode):
        raise _refused("must be a mapping with the key 'applications', as in cluster.yaml.")
    return Document(text, *_checked(node))


def _checked(root: yaml.MappingNode) -> tuple[dict[str, Any], dict[Place, int]]:
    lines: dict[Place, int] = {}
    problems = list(_walk(root, (), lines, []))
    if problems:
        raise FileError(problems)
    loader = yaml.SafeLoader("")
    try:
        values: dict[str, Any] = loader.construct_document(root)
    except (ValueError, yaml.YAMLError) as error:
        raise _refused(f"has a value that cannot be read: {' '.join(str(error).split())}") from error
    return values, lines


def _walk(
    node: yaml.Node, place: Place, lines: dict[Place, int], above: list[yaml.Node]
) -> Iterator[Problem]:
    """What is wrong with a value and those inside it; notes the line of each."""
    line = node.start_mark.line + 1
    lines.setdefault(place, line)
    if node in above:
        yield Problem(line, path_text(place), "contains itself through an alias: write the value out.")
        return
    if len(lines) > MAX_NODES:
        raise _refused(f"has more than {MAX_NODES} values once its aliases are followed.", line)
    if node.tag not in _PLAIN:
        yield Problem(line, path_text(place), _tag_text(node))
    elif isinstance(node, yaml.MappingNode):
        yield from _walk_mapping(node, place, lines, [*above, node])
    elif isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            yield from _walk(item, (*place, number), lines, [*above, node])


def _walk_mapping(
    node: yaml.MappingNode, place: Place, lines: dict[Place, int], above: list[yaml.Node]
) -> Iterator[Problem]:
    first: dict[str, int] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            yield Problem(line, path_text(place), "has a list or a mapping as a key: a key is a plain word.")
            continue
        inner = (*place, key.value)
        if key.value in first:
            text = f"key '{key.value}' stands here and on line {first[key.value]}: remove one of them."
            yield Problem(line, path_text(inner), text)
        first.setdefault(key.value, line)
        if key.tag not in _PLAIN:
            yield Problem(line, path_text(inner), _tag_text(key))
        lines.setdefault(inner, line)  # its key's: the value may begin below
        yield from _walk(value, inner, lines, above)


def _tag_text(node: yaml.Node) -> str:
    name = node.tag.removeprefix(_YAML)
    if name == "timestamp":
        return "is a date to YAML: put it in quotes."
    return f"has the tag '{name}', which is not allowed: write a plain value."


def _refused(message: str, line: int = 0) -> FileError:
    return FileError([Problem(line, "", message)])


def _line(error: yaml.MarkedYAMLError) -> int:
    mark = error.problem_mark or error.context_mark
    return mark.line + 1 if mark else 0


def _yaml_text(error: yaml.MarkedYAMLError) -> str:
    parts = [part for part in (error.context, error.problem) if part]
    return f"is not YAML: {', '.join(parts)}. Look at indentation, quotes and brackets above this line."
