"""Puts the table that `run.sh --check` printed into both READMEs: `python -m scripts.readme [--check]`."""

import argparse
import json
import sys
from pathlib import Path
from typing import Final

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


def main() -> int:
    """Write the pages, or say whether they are up to date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit 1 if a page is out of date")
    check = parser.parse_args().check
    stale = [page for page in PAGES if updated(page.read_text()) != page.read_text()]
    if check:
        return 1 if stale else 0
    for page in stale:
        page.write_text(updated(page.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
