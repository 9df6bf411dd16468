"""Who may see what: signed in, by role, from which site; and the headers of every answer."""

import httpx
import pytest
import pytest_asyncio

from serve_app.dashboard.router import VIEWS
from serve_app.dashboard.sessions import COOKIE
from serve_app.dashboard.static_files import SIGN_IN, StaticFiles
from tests.serve_app.dashboard.served import ADMIN, INFER, READ, Served

pytestmark = pytest.mark.asyncio(loop_scope="module")

GETS = [
    "",
    "/",
    *(f"/{view}" for view in VIEWS),
    "/decisions/d-1",
    "/static/main.js",
    "/api/session",
    "/api/stream?topics=now",
    "/api/now",
    "/api/decisions",
    "/api/decisions/d-1",
    "/api/trade-off",
    "/api/counterfactual",
    "/api/learning",
    "/api/operate",
    "/nothing",
]
POSTS = [
    "/api/sign-out",
    "/api/playground/chat",
    "/api/playground/vote",
    *(
        f"/api/operate/{name}"
        for name in ("pause", "resume", "promote", "rollback", "weights", "drain", "undrain")
    ),
]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def served(pool):
    if not pool.models:
        await pool.add("tiny")
    made = Served(pool)
    await made.start(reading=False)
    await made.read()
    yield made
    await made.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def reader(served):
    async with served.client(READ) as made:
        assert (await made.sign_in()).status_code == 200
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def admin(served):
    async with served.client(ADMIN) as made:
        assert (await made.sign_in()).status_code == 200
        yield made


@pytest.mark.parametrize("path", GETS)
async def test_a_stranger_gets_401_on_every_path_but_the_sign_in(served, path):
    async with served.client() as stranger:
        for accept in ("*/*", "text/html"):
            answer = await stranger.get(f"/dashboard{path}", headers={"accept": accept})
            assert answer.status_code == 401
        bearer = await stranger.get(f"/dashboard{path}", headers={"authorization": f"Bearer {ADMIN}"})
        assert bearer.status_code == 401, "a key belongs into the sign-in, not into every request"


@pytest.mark.parametrize("path", POSTS)
async def test_a_stranger_changes_nothing(served, path):
    async with served.client() as stranger:
        assert (await stranger.post(f"/dashboard{path}", json={"confirm": True})).status_code == 401


async def test_the_sign_in_and_its_files_are_there_for_everybody(served):
    names = [name for name in StaticFiles().names if name.startswith(SIGN_IN)]
    assert {name.rpartition(".")[2] for name in names} == {"html", "js", "css", "svg"}
    async with served.client() as stranger:
        for path in ("/sign-in", *(f"/{name}" for name in names)):
            assert (await stranger.get(f"/dashboard{path}")).status_code == 200
        assert (await stranger.get("/dashboard/sign-in/main.js")).status_code == 404
        assert (await stranger.get("/dashboard/sign-in/../static/main.js")).status_code == 401


@pytest.mark.parametrize(
    ("key", "status"), [(READ, 200), (ADMIN, 200), (INFER, 403), ("fs-wrong-key-0123456789", 401)]
)
async def test_only_known_keys_that_may_read_sign_in(served, key, status):
    async with served.client(key) as visitor:
        answer = await visitor.sign_in()
        assert answer.status_code == status
        assert key not in answer.text
        assert (COOKIE in visitor.cookies) is (status == 200)
        assert (await visitor.get("/dashboard/api/session")).status_code == (200 if status == 200 else 401)


async def test_the_cookie_is_for_the_server_alone_and_holds_no_readable_key(served, reader):
    cookie = (await reader.sign_in()).headers["set-cookie"]
    for flag in ("HttpOnly", "SameSite=Strict", "Path=/dashboard", "Max-Age="):
        assert flag in cookie
    assert READ not in cookie
    assert "Secure" not in cookie
    behind_tls = await reader.post(
        "/dashboard/sign-in", json={"key": READ}, headers={"x-forwarded-proto": "https"}
    )
    assert "Secure" in behind_tls.headers["set-cookie"]


async def test_every_view_is_a_page_of_its_own_without_a_key_in_it(reader):
    for view in (*VIEWS, "decisions/d-1"):
        answer = await reader.get(f"/dashboard/{view}", headers={"accept": "text/html"})
        assert answer.status_code == 200
        assert "text/html" in answer.headers["content-type"]
        assert READ not in answer.text
    home = await reader.get("/dashboard")
    assert (home.status_code, home.headers["location"]) == (303, "/dashboard/now")


async def test_every_answer_has_the_headers_that_keep_others_out(served, reader):
    async with served.client() as stranger:
        answers = [
            await stranger.get("/dashboard/now"),
            await stranger.get("/dashboard/sign-in"),
            await reader.get("/dashboard/now"),
            await reader.get("/dashboard/static/main.js"),
            await reader.get("/dashboard/api/now"),
            await reader.get("/dashboard/nothing"),
        ]
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy, "nothing from another host"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] in ("no-store", "no-cache")


@pytest.mark.parametrize("path", POSTS[3:])
async def test_a_reader_can_do_no_admin_action_by_any_path(served, reader, path):
    answer = await reader.post(f"/dashboard{path}", json={"confirm": True, "model": "tiny", "version": 1})
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "insufficient_permissions"
    assert (await reader.get("/dashboard/api/operate")).status_code == 403
    assert not served.serve.applied
    assert not await served.pool.table.policy_events()


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "accept": "text/html"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {},
    ],
)
async def test_a_request_of_another_site_is_refused_even_with_the_cookie(served, admin, headers):
    cookie = {"cookie": f"{COOKIE}={admin.cookies[COOKIE]}"}
    async with httpx.AsyncClient(base_url=served.url, headers=cookie, timeout=60.0, trust_env=False) as other:
        for path in POSTS:
            answer = await other.post(f"/dashboard{path}", json={"confirm": True}, headers=headers)
            assert answer.status_code == 403
            assert answer.json()["error"]["code"] == "cross_site"
        if headers and "sec-fetch-mode" not in headers:
            assert (await other.get("/dashboard/api/now", headers=headers)).status_code == 403
    assert not served.serve.applied


async def test_a_page_of_our_own_is_known_by_its_origin_where_a_browser_says_no_more(served, admin):
    cookie = {"cookie": f"{COOKIE}={admin.cookies[COOKIE]}", "origin": served.url}
    async with httpx.AsyncClient(base_url=served.url, headers=cookie, timeout=60.0, trust_env=False) as own:
        assert (await own.post("/dashboard/api/operate/pause", json={})).status_code == 200
        assert (await own.get("/dashboard/api/now")).status_code == 200


async def test_a_sign_out_ends_the_session_also_for_a_copy_of_the_cookie(served):
    async with served.client(READ) as visitor:
        await visitor.sign_in()
        copied = visitor.cookies[COOKIE]
        assert (await visitor.post("/dashboard/api/sign-out")).status_code == 200
        visitor.cookies.clear()
        visitor.cookies.set(COOKIE, copied)
        assert (await visitor.get("/dashboard/api/session")).status_code == 401


async def test_files_are_asked_for_again_and_not_sent_again(reader):
    first = await reader.get("/dashboard/static/main.js")
    again = await reader.get("/dashboard/static/main.js", headers={"if-none-match": first.headers["etag"]})
    assert (first.status_code, again.status_code, again.content) == (200, 304, b"")


async def test_a_wrong_method_and_a_wrong_query_are_told(reader):
    assert (await reader.post("/dashboard/api/now")).status_code == 405
    assert (await reader.get("/dashboard/api/operate/pause")).status_code == 405
    assert (await reader.get("/dashboard/api/stream?topics=secrets")).status_code == 400
    for wrong in ("nan", "-1", "101", "x"):
        answer = await reader.get(f"/dashboard/api/counterfactual?accuracy={wrong}")
        assert answer.json()["error"]["param"] == "accuracy"
