"""The command line itself: instant help, exit codes, and a sentence where there is no cluster."""

import socket
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from serve_app.cli import main, names, summary
from serve_app.console.errors import UNREACHABLE, USAGE, UnreachableError
from serve_app.console.reach import reachable

ROOT = Path(__file__).resolve().parents[2]
NAMES = names()
ON_A_CLUSTER = ["mix", "policy", "status", "table"]
HEAVY = ("ray", "numpy", "torch", "pydantic", "sqlalchemy", "rich", "yaml", "aiohttp")


def test_the_overview_has_every_command_with_the_first_line_of_its_module(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for name in NAMES:
        assert f"{name} {summary(name)}" in shown


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_help_that_ends_as_a_sentence(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert summary(name).endswith(".")
    assert main([name, "--help"]) == 0
    assert "Usage: fastserve" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["--version"], *([name, "--help"] for name in NAMES)], ids=str)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        f"import sys; from serve_app.cli import main; main({arguments}); print([n for n in {HEAVY} "
        "if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_version_is_the_projects(capsys: pytest.CaptureFixture[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"fastserve, version {project['version']}\n"


@pytest.mark.parametrize("arguments", [["nope"], ["status", "--nope"], ["policy", "burn"], ["mix"]])
def test_arguments_that_cannot_be_used_give_their_own_exit_code(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == USAGE
    assert "Error: " in capsys.readouterr().err


@pytest.fixture
def dead_end() -> Iterator[str]:
    """An address where connections are accepted and nothing is ever said."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("name", ON_A_CLUSTER)
def test_without_a_cluster_each_command_says_what_to_do(
    name: str, dead_end: str, capsys: pytest.CaptureFixture[str]
) -> None:
    more = {"policy": ["list"], "mix": ["--demand", "1"]}.get(name, [])
    assert main([name, *more, "--address", dead_end]) == UNREACHABLE
    complaint = capsys.readouterr().err
    assert complaint.count("\n") == 1
    assert (
        f"fastserve {name}: No Ray cluster answers at '{dead_end}'. Start one with `fastserve up`"
        in complaint
    )


def test_a_closed_port_and_a_web_server_are_no_cluster() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"

        def answer_as_http() -> None:
            connection, _ = server.accept()
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            connection.close()

        thread = threading.Thread(target=answer_as_http)
        thread.start()
        with pytest.raises(UnreachableError, match="No Ray cluster answers"):
            reachable(address)
        thread.join()
    with pytest.raises(UnreachableError, match="No Ray cluster answers"):
        reachable(address)


@pytest.mark.parametrize("address", ["head", "head:", ":6379", "ray://head:10001", "head:port"])
def test_an_address_of_another_form_is_named(address: str) -> None:
    with pytest.raises(UnreachableError, match=f"Address '{address}': must be HOST:PORT"):
        reachable(address)


def test_auto_takes_ray_address_and_nothing_else(monkeypatch: pytest.MonkeyPatch, dead_end: str) -> None:
    monkeypatch.setenv("RAY_ADDRESS", dead_end)
    with pytest.raises(UnreachableError, match=f"answers at '{dead_end}'"):
        reachable("auto")


def test_auto_looks_where_ray_start_left_its_address(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, dead_end: str
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text(f"{dead_end}\n")
    monkeypatch.setattr("psutil.process_iter", lambda _: iter(()))
    with pytest.raises(UnreachableError, match=f"answers at '{dead_end}'"):
        reachable("auto")
    (tmp_path / "ray" / "ray_current_cluster").unlink()
    with pytest.raises(UnreachableError, match="No Ray cluster runs on this machine"):
        reachable("auto")
