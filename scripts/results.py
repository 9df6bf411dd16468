"""Writes benchmarks/README.md, the page over all accepted results: `python -m scripts.results [--check]`."""

import json
import sys
from pathlib import Path
from typing import Any, Final

from scripts.pages import write_or_check

FOLDER: Final = Path("benchmarks")
PAGE: Final = FOLDER / "README.md"
_HEAD: Final = """# Benchmarks

Accepted results, each with the command that made it; written by `python -m scripts.results`. Figures
belong to the machine named beside them: compare within a file, not between machines. `spread` is the
half-width of the 95 % interval.
"""


def results() -> list[tuple[Path, dict[str, Any]]]:
    """The stored files that hold bars, in order of their names."""
    found = [(path, json.loads(path.read_text())) for path in sorted(FOLDER.glob("*.json"))]
    return [(path, document) for path, document in found if "bars" in document]


def _section(path: Path, document: dict[str, Any]) -> str:
    machine = document["machine"]
    lines = [
        f"## {path.stem}",
        "",
        f"`{document['command']}`",
        "",
        f"{machine['cores']} cores, {machine['cpu']}, {machine['memory_gib']} GiB, "
        f"{machine.get('gpu') or 'no GPU'}; revision {document['git']}. "
        f"Everything measured: [{path.name}]({path.name}).",
        "",
    ]
    if document["bars"]:
        lines += ["| bar | value | spread | limit | passed |", "|---|---|---|---|---|"]
        lines += [_row(one) for one in document["bars"]]
        lines.append("")
    for picture in sorted(FOLDER.glob(f"{path.stem}*.png")):
        lines += [f"![{picture.stem}]({picture.name})", ""]
    return "\n".join(lines)


def _row(one: dict[str, Any]) -> str:
    limit = f"{one['op']} {one['bar']:g}"
    passed = "yes" if one["passed"] else "**no**"
    return f"| {one['name']} | {one['value']:.4g} | {one['spread']:.2g} | {limit} | {passed} |"


def page() -> str:
    """The whole page."""
    return "\n".join([_HEAD, *(_section(path, document) for path, document in results())])


if __name__ == "__main__":
    sys.exit(write_or_check(__doc__, lambda: {PAGE: page()}))
