"""A headless Chromium of the system, as the tests of pages drive it; they are skipped where there is none."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, ConsoleMessage, Page, async_playwright

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
MISSING = "There is no chromium on this machine: scripts/install_browser.sh installs it, as root on Debian."
WIDTHS = {"narrow": 380, "wide": 1440}
_SERIOUS = frozenset({"serious", "critical"})
_HEIGHT = 900


@asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    """The browser itself."""
    async with async_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        made = await playwright.chromium.launch(executable_path=BROWSER, args=arguments)
        try:
            yield made
        finally:
            await made.close()


@dataclass
class Tab:
    """A tab that remembers what went wrong in it."""

    page: Page
    problems: list[str] = field(default_factory=list)

    async def open(self, path: str) -> None:
        """Go to a path and wait until its view is drawn."""
        await self.page.goto(path, wait_until="domcontentloaded")
        await self.drawn()

    async def drawn(self) -> None:
        """Wait until nothing loads any more."""
        await self.page.wait_for_selector("main h1")
        await self.until("!document.querySelector('main .quiet:only-child')")

    async def until(self, expression: str) -> None:
        """Wait until an expression holds; the page's own policy lets no string be evaluated inside of it."""
        for _ in range(400):
            if await self.page.evaluate(expression):
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"Never true: {expression}")

    async def see(self, text: str) -> None:
        """Wait until a text is there."""
        await self.page.get_by_text(text).first.wait_for()

    async def serious(self) -> list[str]:
        """What an accessibility checker finds that keeps people out."""
        found = await Axe().run(self.page)
        return [
            f"{one['id']}: {[node['target'] for node in one['nodes'][:3]]}"
            for one in found.response["violations"]
            if one["impact"] in _SERIOUS
        ]

    async def overflows(self) -> bool:
        """Whether the page is wider than its window."""
        wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth + 1"
        return bool(await self.page.evaluate(wide))

    async def picture(self, path: Path) -> None:
        """The whole page as a picture."""
        await self.page.screenshot(path=path, full_page=True)


@asynccontextmanager
async def tab(
    browser: Browser, url: str, *, width: int = 1440, theme: str = "light", language: str = "en"
) -> AsyncIterator[Tab]:
    """A tab of a viewer of that screen, theme and language, without cookies."""
    context = await browser.new_context(
        base_url=url,
        viewport={"width": width, "height": _HEIGHT},
        color_scheme="dark" if theme == "dark" else "light",
        locale="zh-CN" if language == "zh" else "en-GB",
        timezone_id="Asia/Shanghai",
    )
    context.set_default_timeout(20_000)
    page = await context.new_page()
    made = Tab(page)

    def told(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            made.problems.append(message.text)

    page.on("console", told)
    page.on("pageerror", lambda error: made.problems.append(str(error)))
    try:
        yield made
    finally:
        await context.close()


async def sign_in(tab: Tab, key: str, path: str = "/dashboard/now") -> None:
    """Ask for a page, sign in in its place, and see it."""
    await tab.page.goto(path)
    await tab.page.fill("#key", key)
    async with tab.page.expect_navigation():  # or the page of the sign-in would pass for the one behind it
        await tab.page.click("button[type=submit]")
    await tab.drawn()
    tab.problems = [one for one in tab.problems if "401" not in one]  # the page itself, before the sign-in
