"""docs/api.md is true: its error codes are made, its routes are served, its caps are the defaults."""

import re
from pathlib import Path

import pytest

from serve_app.asgi import Router
from serve_app.body.checks import refused
from serve_app.body.fields import sampling_fields
from serve_app.config import Caps

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "api.md").read_text()


def section(title):
    return TEXT.split(f"## {title}\n")[1].split("\n## ")[0]


def test_every_error_code_of_the_page_is_made_somewhere():
    source = "".join(path.read_text() for path in (ROOT / "serve_app").rglob("*.py"))
    codes = re.findall(r"`([a-z]+(?:_[a-z]+)+)`", section("Errors").split("An engine")[0])
    assert len(codes) > 20
    configured = {"body_s", "body_bytes_per_s", "body_bytes", "bodies_bytes"}
    assert [code for code in codes if code not in configured and f'"{code}"' not in source] == []


@pytest.mark.parametrize("name", ["n", "top_logprobs", "logit_bias", "tools"])
def test_the_caps_of_the_page_are_the_defaults(name):
    row = next(
        line for line in section("What a body may hold").splitlines() if line.startswith(f"| `{name}`")
    )
    assert int(re.search(r"\d+", row.split("|")[2])[0]) == getattr(Caps(), name)


def test_the_fields_that_the_page_calls_refused_are():
    listed = section("What a body may hold").split("Refused from clients:")[1]
    fields = sampling_fields(Caps())
    names = set(re.findall(r"`([a-z_]+)`", listed)) - {"best_of"}  # but for 1
    assert {name for name in names if fields[name] is not refused} == set()


def test_the_routes_of_the_page_are_served():
    class Endpoint:
        explain = models = generate = None

    routes = Router(Endpoint(), None)._routes
    listed = set(re.findall(r"`(?:GET |POST )?(/[a-z0-9./_]+)`", section("Routes"))) - {"/docs"}
    assert listed == set(routes)
