"""What the scripts that write pages share: write them, or say whether they are up to date."""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path


def write_or_check(told: str | None, pages: Callable[[], Mapping[Path, str]]) -> int:
    """Write each page's text; with `--check` write nothing. Returns 1 where a checked page is out of date."""
    parser = argparse.ArgumentParser(description=told)
    parser.add_argument("--check", action="store_true", help="exit 1 if a stored page is out of date")
    check = parser.parse_args().check
    stale = {path: text for path, text in pages().items() if not path.exists() or path.read_text() != text}
    if check:
        return 1 if stale else 0
    for path, text in stale.items():
        path.write_text(text)
    return 0
