"""Media in messages: counted, and fetched by a model only from hosts that the operator named."""

from typing import Any
from urllib.parse import urlsplit

from serve_app.body import checks
from serve_app.config import Caps
from serve_app.http.errors import bad_request

_URL_FIELDS = {"image_url": "url", "video_url": "url", "audio_url": "url", "input_image": None}
_INLINE = frozenset({"input_audio"})


def check_part(part: dict[str, Any], kind: str, param: str, caps: Caps) -> None:
    """Raises ApiError (400) for a part that is no known medium or that names a host not allowed."""
    if kind in _INLINE:
        checks.record(part.get(kind), f"{param}.{kind}")
        return
    if kind not in _URL_FIELDS:
        raise bad_request(f"Parts of type '{kind[:64]}' are not accepted.", f"{param}.type")
    holder = part.get("image_url" if kind == "input_image" else kind)
    url = holder.get("url") if isinstance(holder, dict) else holder
    _check_url(checks.text(url, f"{param}.{kind}"), f"{param}.{kind}", caps)


def _check_url(url: str, param: str, caps: Caps) -> None:
    if url.startswith("data:"):
        return
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        raise bad_request(f"'{param}' is not a URL.", param) from None
    if parts.scheme not in ("http", "https") or host not in caps.media_domains:
        raise bad_request(f"'{param}': only data: URLs and hosts in 'caps.media_domains' are allowed.", param)
