"""Ray's token is made where it is asked for, for its owner alone."""

import stat
from pathlib import Path

import pytest

from deployments.ray_token import ensure_token, token_file, use_token

ON = {"RAY_AUTH_MODE": "token"}


def mode(file: Path) -> int:
    return stat.S_IMODE(file.stat().st_mode)


def test_a_token_is_made_once_and_is_private(tmp_path: Path) -> None:
    ensure_token(ON, tmp_path)
    file = token_file(ON, tmp_path)
    text = file.read_text()
    assert (len(text), mode(file)) == (64, 0o600)
    ensure_token(ON, tmp_path)
    assert file.read_text() == text


def test_a_token_that_ray_made_for_all_to_read_is_closed(tmp_path: Path) -> None:
    environ = {**ON, "RAY_AUTH_TOKEN_PATH": str(tmp_path / "token")}
    (tmp_path / "token").write_text("made by Ray")
    (tmp_path / "token").chmod(0o644)
    ensure_token(environ, tmp_path)
    assert ((tmp_path / "token").read_text(), mode(tmp_path / "token")) == ("made by Ray", 0o600)


@pytest.mark.parametrize("environ", [{}, {"RAY_AUTH_MODE": "disabled"}, {**ON, "RAY_AUTH_TOKEN": "x"}])
def test_nothing_is_made_where_no_file_is_needed(environ: dict[str, str], tmp_path: Path) -> None:
    ensure_token(environ, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("environ", "has_file", "mode"),
    [
        ({}, False, None),
        ({}, True, "token"),
        ({"RAY_AUTH_TOKEN": "x"}, False, "token"),
        ({"RAY_AUTH_MODE": "disabled"}, True, "disabled"),
    ],
)
def test_a_token_that_is_there_is_shown_unless_somebody_said_no(
    environ: dict[str, str], has_file: bool, mode: str | None, tmp_path: Path
) -> None:
    if has_file:
        ensure_token(ON, tmp_path)
    shown = dict(environ)
    use_token(shown, tmp_path)
    assert shown.get("RAY_AUTH_MODE") == mode
