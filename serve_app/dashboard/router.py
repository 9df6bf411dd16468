"""The dashboard's ASGI app: who may see what, paths to handlers, exceptions to answers."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from deployments.logger import get_logger
from deployments.table.errors import StorageUnavailableError, TableError
from serve_app.dashboard.desk import Desk
from serve_app.dashboard.feed import TOPICS
from serve_app.dashboard.secured import Secured
from serve_app.dashboard.static_files import SIGN_IN, StaticFiles, send_redirect
from serve_app.dashboard.streams import stream
from serve_app.dashboard.visit import PREFIX, Visit, Visitor
from serve_app.http.errors import (
    ApiError,
    bad_request,
    internal_error,
    not_found,
    unauthorized,
    unavailable,
    wrong_method,
)
from serve_app.http.guard import require_mark
from serve_app.http.request import Receive, Send, read_body, send_error, send_json

logger = get_logger(__name__)

VIEWS: Final = ("now", "trade-off", "decisions", "learning", "playground", "operate")
_SIGN_IN: Final = "/sign-in"
_WRONG_KEY_S: Final = 0.5  # an answer to a wrong key takes at least so long

Handler = Callable[[Visit, Visitor, Send], Awaitable[None]]


class Router:
    """Everything but the sign-in asks for a sign-in first, an unknown path too."""

    def __init__(self, desk: Desk, *, guarded: bool) -> None:
        self._desk, self._guarded = desk, guarded
        self._files = StaticFiles()
        routes: dict[str, tuple[str, Handler]] = {
            "": ("GET", self._home),
            "/": ("GET", self._home),
            "/api/sign-out": ("POST", self._sign_out),
            "/api/session": ("GET", self._session),
            "/api/stream": ("GET", self._stream),
            "/api/now": ("GET", desk.now),
            "/api/decisions": ("GET", desk.decisions),
            "/api/trade-off": ("GET", desk.trade_off),
            "/api/counterfactual": ("GET", desk.counterfactual),
            "/api/learning": ("GET", desk.learning),
            "/api/operate": ("GET", desk.operate_state),
            "/api/playground/chat": ("POST", desk.chat),
            "/api/playground/vote": ("POST", desk.vote),
        }
        pages: dict[str, tuple[str, Handler]] = {f"/{view}": ("GET", self._page) for view in VIEWS}
        self._routes = routes | pages
        self._folders: dict[str, tuple[str, Handler]] = {
            "/api/decisions/": ("GET", desk.decision),
            "/api/operate/": ("POST", desk.operate),
            "/decisions/": ("GET", self._page),
            "/static/": ("GET", self._static),
        }

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        visit = Visit.of(scope, receive)
        answer = Secured(send, has_body=visit.method != "HEAD")
        try:
            if self._guarded:
                require_mark(dict(visit.headers))
            await self._answer(visit, answer)
        except ApiError as error:
            await send_error(answer, error)
        except (TableError, StorageUnavailableError) as error:
            await send_error(answer, unavailable(f"The table does not answer: {error}", "table_silent"))
        except asyncio.CancelledError:
            raise
        except Exception as error:  # a defect of ours: the viewer is told so, the log gets the trace
            logger.exception("Dashboard: '%s' failed: %s", visit.path[:200], type(error).__name__)
            if answer.started:
                raise
            await send_error(answer, internal_error())

    async def _answer(self, visit: Visit, send: Send) -> None:
        if visit.path == _SIGN_IN or visit.path.startswith(f"{_SIGN_IN}/"):
            await self._open(visit, send)
            return
        sessions = self._desk.sessions
        visitor = sessions.visitor(visit.headers.get(b"cookie"))
        if visitor is None:
            await self._refuse(visit, send)
            return
        visit.require_own_site()
        handler = self._find(visit)
        if visit.method == "POST":
            visit.body = await read_body(visit.receive)
        await handler(visit, visitor, send)

    async def _refuse(self, visit: Visit, send: Send) -> None:
        """401: a browser gets the sign-in in place of the page, and after it the page that it asked for."""
        if not visit.wants_page:
            raise unauthorized()
        await self._files.send_page(send, f"{SIGN_IN}sign-in.html", 401)

    def _find(self, visit: Visit) -> Handler:
        found = self._routes.get(visit.path)
        if found is None:
            folders = (folder for folder in self._folders if visit.path.startswith(folder))
            found = next((self._folders[folder] for folder in folders), None)
        if found is None:
            raise not_found(PREFIX + visit.path)
        method, handler = found
        allowed = ("GET", "HEAD") if method == "GET" else (method,)
        if visit.method not in allowed:
            raise wrong_method(visit.method, allowed)
        return handler

    async def _open(self, visit: Visit, send: Send) -> None:
        """The sign-in: its page, its files, and the key itself."""
        if visit.method == "POST" and visit.path == _SIGN_IN:
            await self._sign_in(visit, send)
        elif not visit.is_safe:
            raise wrong_method(visit.method, ("GET", "HEAD", "POST"))
        elif visit.path == _SIGN_IN:
            await self._files.send_page(send, f"{SIGN_IN}sign-in.html")
        else:
            name = SIGN_IN + visit.path.removeprefix(f"{_SIGN_IN}/")
            await self._files.send(send, name, visit.headers.get(b"if-none-match", b""))

    async def _sign_in(self, visit: Visit, send: Send) -> None:
        visit.require_own_site()
        visit.body = await read_body(visit.receive)
        text = visit.json().get("key")
        if not isinstance(text, str):
            raise bad_request("'key' must be the API key.", "key")
        sessions = self._desk.sessions
        if self._desk.keys.problem:
            raise unavailable(self._desk.keys.problem, "keys_unavailable")
        try:
            visitor = sessions.sign_in(text.strip())
        except ApiError:
            await asyncio.sleep(_WRONG_KEY_S)
            raise
        cookie = sessions.cookie(visitor.token, visit.is_https)
        await send_json(send, _who(visitor), [(b"set-cookie", cookie)])

    async def _sign_out(self, visit: Visit, visitor: Visitor, send: Send) -> None:
        sessions = self._desk.sessions
        sessions.sign_out(visitor)
        await send_json(send, {}, [(b"set-cookie", sessions.cookie("", visit.is_https))])

    async def _session(self, visit: Visit, visitor: Visitor, send: Send) -> None:
        await send_json(send, _who(visitor) | {"status": self._desk.feed.status()})

    async def _home(self, visit: Visit, visitor: Visitor, send: Send) -> None:
        await send_redirect(send, f"{PREFIX}/{VIEWS[0]}")

    async def _page(self, visit: Visit, visitor: Visitor, send: Send) -> None:
        await self._files.send_page(send, "index.html")

    async def _static(self, visit: Visit, visitor: Visitor, send: Send) -> None:
        name = visit.path.removeprefix("/static/")
        await self._files.send(send, name, visit.headers.get(b"if-none-match", b""))

    async def _stream(self, visit: Visit, visitor: Visitor, send: Send) -> None:
        topics = frozenset(visit.query.get("topics", "").split(","))
        if not topics <= TOPICS:
            raise bad_request(f"'topics' must be some of {', '.join(sorted(TOPICS))}.", "topics")
        sessions = self._desk.sessions
        cookie = visit.headers.get(b"cookie")
        await stream(self._desk.hub, visit, topics, lambda: sessions.visitor(cookie) is not None, send)


def _who(visitor: Visitor) -> dict[str, Any]:
    return {"name": visitor.key.name, "roles": sorted(visitor.key.roles), "admin": visitor.is_admin}
