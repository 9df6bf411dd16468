"""The pages in a real browser: every view in both languages, both themes, on a phone and on a wide screen."""

import asyncio
import itertools
import time

import pytest
import pytest_asyncio

from serve_app.dashboard.router import VIEWS
from tests.serve_app.dashboard.chromium import BROWSER, MISSING, WIDTHS, browser, sign_in, tab
from tests.serve_app.dashboard.history import evaluated, trained, voted
from tests.serve_app.dashboard.served import ADMIN, READ, Served

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(BROWSER is None, reason=MISSING),
]

MODELS = ["tiny", "large"]
TITLES = {"en": "Now", "zh": "现状"}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def served(pool):
    price = {"prompt_usd_per_mtok": 1.0, "completion_usd_per_mtok": 2.0}
    await pool.add("tiny", context_tokens=64, accuracy_prior=0.3)
    await pool.add("large", accuracy_prior=0.8, price=price)
    made = Served(pool)
    pool.client.headers["authorization"] = f"Bearer {ADMIN}"
    await made.start()
    asked = ["auto", "auto:customer-service", "tiny"] * 4
    answers = [
        await pool.chat(model, "Hello there " * (60 if place > 9 else 1)) for place, model in enumerate(asked)
    ]
    ids = [answer.headers["x-fastserve-decision-id"] for answer in answers if answer.status_code == 200]
    await evaluated(pool.table, MODELS, time.time())
    await trained(pool.table, time.time())
    key_id = next(key.key_id for key in made.dashboard.desk.keys.keys if key.name == "boss")
    await voted(pool.table, ids[:6], key_id, time.time())
    made.decisions = ids
    yield made
    await made.stop()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def chromium():
    async with browser() as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def admin(chromium, served):
    async with tab(chromium, served.url) as made:
        await sign_in(made, ADMIN)
        yield made
        assert made.problems == []


@pytest.mark.parametrize(
    ("language", "theme", "width"), itertools.product(("en", "zh"), ("light", "dark"), sorted(WIDTHS))
)
async def test_every_view_is_drawn_and_keeps_nobody_out(chromium, served, language, theme, width, tmp_path):
    async with tab(chromium, served.url, width=WIDTHS[width], theme=theme, language=language) as seen:
        await seen.page.goto("/dashboard/now")
        assert await seen.serious() == []
        await sign_in(seen, ADMIN)
        assert TITLES[language] in await seen.page.inner_text("h1")
        for path in (*VIEWS, f"decisions/{served.decisions[-1]}"):
            await seen.open(f"/dashboard/{path}")
            await seen.picture(tmp_path / f"{path.replace('/', '-')[:12]}-{language}-{theme}-{width}.png")
            assert (path, await seen.serious()) == (path, [])
            assert (path, await seen.overflows()) == (path, False)
            assert (path, "{" in await seen.page.inner_text("main")) == (path, False), (
                "a word lacks its value"
            )
        assert seen.problems == []


async def test_a_wrong_key_is_told_and_a_right_one_leads_to_the_page_asked_for(chromium, served):
    async with tab(chromium, served.url) as seen:
        await seen.page.goto("/dashboard/learning")
        await seen.page.fill("#key", "fs-wrong-key-0123456789")
        await seen.page.press("#key", "Enter")
        await seen.see("This key is not known")
        await sign_in(seen, READ, "/dashboard/learning")
        assert seen.page.url.endswith("/dashboard/learning")
        assert READ not in await seen.page.content()
        assert await seen.page.evaluate("document.cookie") == ""


async def test_the_keyboard_alone_suffices(admin):
    page = admin.page
    await page.keyboard.press("Tab")
    assert await page.evaluate("document.activeElement.className") == "skip"
    for _ in range(2):
        await page.keyboard.press("Tab")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/dashboard/*")
    assert await page.evaluate("document.activeElement.id") == "content"


async def test_now_moves_by_itself(admin, served):
    await admin.open("/dashboard/now")
    await served.pool.chat("auto", "One more")
    total = "[...document.querySelectorAll('.totals dd')][3].textContent"
    before = await admin.page.evaluate(total)
    await served.pool.chat("auto", "And one more")
    await admin.until(f"{total} !== {before!r}")


async def test_a_decision_opens_from_its_id_and_says_in_words_why(admin, served):
    answer = await served.pool.chat("auto", "word " * 400)
    decision_id = answer.headers["x-fastserve-decision-id"]
    await admin.open("/dashboard/decisions")
    await admin.page.fill("input[name=id]", decision_id)
    await admin.page.click("text=Open")
    await admin.see("tiny was not considered: the prompt is longer than its context.")
    assert admin.page.url.endswith(f"/dashboard/decisions/{decision_id}")
    await admin.page.go_back()
    await admin.page.wait_for_selector("input[name=id]")


async def test_filters_narrow_the_list(admin):
    await admin.open("/dashboard/decisions")
    await admin.page.select_option("select >> nth=3", "tiny")
    cells = "[...document.querySelectorAll('tbody tr td:nth-child(3)')]"
    await admin.until(f"{cells}.every((cell) => cell.textContent.includes('tiny'))")


async def test_the_slider_moves_the_counts(admin):
    await admin.open("/dashboard/trade-off")
    await admin.see("would get another model")
    before = await admin.page.inner_text("[aria-live]")
    for name in (0, 1):
        await admin.page.locator("input[type=range]").nth(name).fill("0")
    await admin.page.locator("input[type=range]").nth(2).fill("5")
    await admin.until(f"document.querySelector('[aria-live]').innerText !== {before!r}")


async def test_a_streamed_chat_and_a_vote_that_changes_a_number(admin, served):
    await admin.open("/dashboard/learning")
    caption = "[...document.querySelectorAll('figcaption')].map((one) => one.textContent).join()"
    before = await admin.page.evaluate(caption)
    await admin.open("/dashboard/playground")
    await admin.page.fill("textarea", "Say something")
    await admin.page.check("input[value=large]")
    await admin.page.click("text=Send")
    await admin.page.get_by_text("Good answer").nth(1).wait_for()
    assert len(await admin.page.locator(".answer").all_inner_texts()) == 2
    assert all(await admin.page.locator(".answer").all_inner_texts())
    await admin.page.get_by_text("Good answer").first.click()
    await admin.see("Your vote for this answer is stored.")
    await admin.open("/dashboard/learning")
    assert await admin.page.evaluate(caption) != before


@pytest.mark.parametrize(
    ("press", "row"),
    [
        ("Pause learning", "paused"),
        ("Resume learning", "resumed"),
        ("Roll back", "rolled_back learned@2"),
        ("Promote", "promoted learned@2"),
        ("Drain tiny", "dashboard: drain 'tiny'"),
        ("Let tiny serve again", "dashboard: undrain 'tiny'"),
    ],
)
async def test_each_admin_action_asks_once_and_is_in_the_history(admin, press, row):
    await admin.open("/dashboard/operate")
    await admin.page.get_by_role("button", name=press, exact=True).click()
    await admin.see("This will change")
    assert await admin.serious() == []
    await admin.page.click("text=Change it")
    await admin.until(
        f"document.querySelector('main table tbody tr') && "
        f"[...document.querySelectorAll('main tbody tr')].some((one) => one.textContent.includes({row!r}) "
        "&& one.textContent.includes('boss'))"
    )


async def test_weights_typed_in_survive_what_moves_and_are_set(admin, served):
    await admin.open("/dashboard/operate")
    field = admin.page.locator("form.weights input[name=accuracy]").nth(1)
    await field.fill("7")
    await admin.page.locator("form.weights input[name=cost]").nth(1).focus()
    served.dashboard.desk.hub.publish("status", served.dashboard.feed.status())
    await asyncio.sleep(0)
    await admin.page.locator("form.weights button").nth(1).click()
    await admin.see("This will change")
    await admin.page.click("text=Change it")
    await admin.see("Done: Set the weights of customer-service.")
    assert served.pool.ingress.dispatcher.profile("auto:customer-service").weights.accuracy == 7.0


async def test_a_reader_sees_and_may_not_operate(chromium, served):
    async with tab(chromium, served.url) as seen:
        await sign_in(seen, READ, "/dashboard/operate")
        await seen.see("this view needs the role admin")
        await seen.open("/dashboard/playground")
        await seen.see("lacks the role infer")
        assert seen.problems == []


async def test_an_ended_session_says_so_and_leads_back(chromium, served):
    async with tab(chromium, served.url) as seen:
        await sign_in(seen, READ)
        cookie = (await seen.page.context.cookies())[0]
        assert cookie["httpOnly"] is True
        sessions = served.dashboard.desk.sessions
        sessions.sign_out(sessions.visitor(f"{cookie['name']}={cookie['value']}".encode()))
        await seen.see("Your sign-in has ended")
        await seen.page.click("text=Sign in again")
        await seen.page.wait_for_selector("#key")


async def test_language_and_theme_can_be_switched_and_are_kept(admin):
    await admin.page.select_option("select >> nth=0", "zh")
    await admin.see("最近 60 秒")
    await admin.page.select_option("select >> nth=1", "dark")
    await admin.page.reload()
    await admin.see("最近 60 秒")
    assert await admin.page.evaluate("document.documentElement.dataset.theme") == "dark"
