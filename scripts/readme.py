"""Puts the table that `run.sh --check` printed into both READMEs: `python -m scripts.readme [--check]`."""

import json
import sys
from pathlib import Path
from typing import Final

from scripts.pages import write_or_check

SOURCE: Final = Path("benchmarks/check.json")
PAGES: Final = (Path("README.md"), Path("README.zh-CN.md"))
BEGIN, END = "<!-- check table -->\n", "<!-- end of check table -->"


def block() -> str:
    """The table as text, as the script printed it."""
    document = json.loads(SOURCE.read_text())
    return f"{BEGIN}```text\n{document['table']}\n```\n{END}"


def updated(text: str) -> str:
    """A page with the present table. Raises ValueError where it has no place for one."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"The page has no place for the table: it needs '{BEGIN.strip()}' and '{END}'.")
    return before + block() + after


if __name__ == "__main__":
    sys.exit(write_or_check(__doc__, lambda: {page: updated(page.read_text()) for page in PAGES}))
