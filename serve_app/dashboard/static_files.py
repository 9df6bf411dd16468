"""The page's own files: modules, styles and words as they lie in the package; nothing builds them."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

from serve_app.dashboard.secured import CACHE
from serve_app.http.errors import not_found
from serve_app.http.request import Header, Send

SIGN_IN: Final = "sign-in/"  # files that are there before anybody is signed in
_TYPES: Final = {
    ".html": b"text/html; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".css": b"text/css; charset=utf-8",
    ".json": b"application/json",
    ".svg": b"image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class File:
    """A file as it is sent."""

    kind: bytes
    body: bytes
    tag: bytes


class StaticFiles:
    """Read once; a browser asks again each time and is told that nothing changed."""

    def __init__(self) -> None:
        self._files: dict[str, File] = {}
        root = files("serve_app.dashboard").joinpath("static")
        for folder, prefix in ((root, ""), (root.joinpath("sign-in"), SIGN_IN)):
            for entry in folder.iterdir():
                kind = _TYPES.get(entry.name[entry.name.rfind(".") :])
                if entry.is_file() and kind is not None:
                    body = entry.read_bytes()
                    tag = f'"{hashlib.sha256(body).hexdigest()[:20]}"'.encode()
                    self._files[prefix + entry.name] = File(kind, body, tag)

    @property
    def names(self) -> list[str]:
        """All that are served; those that begin with SIGN_IN to everybody."""
        return sorted(self._files)

    async def send(self, send: Send, name: str, known: bytes = b"") -> None:
        """The file, or 304 where the browser has it by its tag. Raises ApiError (404)."""
        file = self._files.get(name)
        if file is None:
            raise not_found(name)
        headers = [(b"etag", file.tag), (CACHE, b"no-cache")]
        if known == file.tag:
            await send_body(send, 304, file.kind, b"", headers)
        else:
            await send_body(send, 200, file.kind, file.body, headers)

    async def send_page(self, send: Send, name: str, status: int = 200) -> None:
        """A page of HTML, which nobody keeps."""
        file = self._files[name]
        await send_body(send, status, file.kind, file.body)


async def send_body(
    send: Send, status: int, kind: bytes, body: bytes, headers: Iterable[Header] = ()
) -> None:
    """A whole answer that is no JSON."""
    head = [(b"content-type", kind), (b"content-length", b"%d" % len(body)), *headers]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body})


async def send_redirect(send: Send, path: str) -> None:
    """Send the browser to another page."""
    await send_body(send, 303, b"text/plain", b"", [(b"location", path.encode())])
