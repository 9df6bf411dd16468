"""Where a model may fetch media from: every URL in a body, in whatever part it stands, read by one parser.

What the engine gets is the URL written anew from the parts that were checked here, so that no parser behind
this one can read another host in it.
"""

import re
from collections.abc import Collection, Iterator
from typing import Any, Final

from serve_app.http.errors import ApiError, bad_request

_FIELDS: Final = frozenset({"image_url", "video_url", "audio_url", "file_url", "input_image"})
_WEB: Final = re.compile(
    r"(?P<scheme>https?)://(?P<host>[a-z0-9](?:[a-z0-9.-]{0,252}[a-z0-9])?)(?::(?P<port>80|443))?"
    r"(?P<path>/[A-Za-z0-9._~%!$&'()*+,;=:@/-]*)?(?P<query>\?[A-Za-z0-9._~%!$&'()*+,;=:@/?-]*)?(?:#.*)?",
    re.IGNORECASE | re.ASCII,
)


def rebuilt(url: str, param: str, allowed: Collection[str]) -> str:
    """A `data:` URL as it is, any other from its parts. Raises ApiError (400) unless its host is allowed."""
    if url.startswith("data:"):
        return url
    found = _WEB.fullmatch(url)
    host = found["host"].lower() if found else ""
    if found is None or host not in allowed:
        message = f"'{param}': only data: URLs and hosts in 'caps.media_domains' are allowed."
        raise bad_request(message, param)
    port = f":{found['port']}" if found["port"] else ""
    return f"{found['scheme'].lower()}://{host}{port}{found['path'] or '/'}{found['query'] or ''}"


def check_urls(value: object, param: str, allowed: Collection[str]) -> tuple[int, bool]:
    """How many media are named inside `value`, and whether a URL was changed. Raises ApiError (400)."""
    count, changed = 0, False
    for field, holder, name in _places(value):
        count += 1
        given = holder[name]
        if not isinstance(given, str):
            raise _no_url(f"{param}.{field}")
        holder[name] = rebuilt(given, f"{param}.{field}", allowed)
        changed |= holder[name] != given
    return count, changed


def _places(value: object) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Every place inside that holds a URL of a medium: its field, the object, and the name of its member."""
    left = [value]
    while left:
        node = left.pop()
        if isinstance(node, list):
            left.extend(node)
        elif isinstance(node, dict):
            for name, member in node.items():
                is_medium = name in _FIELDS and member is not None
                if is_medium and isinstance(member, dict):
                    if "url" in member:
                        yield name, member, "url"
                elif is_medium:
                    yield name, node, name
                if isinstance(member, dict | list):
                    left.append(member)


def _no_url(param: str) -> ApiError:
    return bad_request(f"'{param}' must be a URL.", param, "invalid_type")
