"""Pictures of the dashboard: `FASTSERVE_API_KEY=KEY python -m scripts.pictures URL [--to FOLDER]`.

Drives the system's own chromium over a pool that runs and has answered some requests.
"""

import argparse
import os
import shutil
import sys
from pathlib import Path
from typing import Final

from playwright.sync_api import Page, sync_playwright

VIEWS: Final = ("now", "trade-off", "decisions", "learning", "playground", "operate")
_WIDTH, _HEIGHT = 1280, 900
_DRAWN_MS: Final = 1500  # a beat of the stream after the view is there


def main() -> int:
    """Take a picture of every view, and of the newest decision."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", help="such as http://127.0.0.1:8000")
    parser.add_argument("--to", type=Path, default=Path("docs/pictures"), metavar="FOLDER")
    args = parser.parse_args()
    args.to.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(
            base_url=args.url, viewport={"width": _WIDTH, "height": _HEIGHT}, locale="en-GB"
        )
        page.goto("/dashboard/now")
        page.fill("#key", os.environ["FASTSERVE_API_KEY"])
        page.click("button[type=submit]")
        page.wait_for_selector("main[data-view]")
        for view in VIEWS:
            page.goto(f"/dashboard/{view}")
            _take(page, args.to / f"{view}.png")
        page.goto("/dashboard/decisions")
        page.click("main tbody a")
        _take(page, args.to / "decision.png")
        browser.close()
    return 0


def _take(page: Page, path: Path) -> None:
    page.wait_for_selector("main h1")
    page.wait_for_timeout(_DRAWN_MS)
    page.screenshot(path=path, full_page=True)
    print(path)


if __name__ == "__main__":
    sys.exit(main())
