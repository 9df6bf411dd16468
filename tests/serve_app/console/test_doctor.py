"""What the doctor says of ports, tokens, modes, stores and versions."""

import sqlite3
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from serve_app.console.doctor import (
    Listener,
    Ports,
    auth_finding,
    certificate_findings,
    examine,
    files_finding,
    listeners,
    mode_findings,
    port_findings,
    store_finding,
    version_findings,
)
from serve_app.http.certificate import CHAIN_ENV, KEY_ENV
from tests.certificates import Authority


def test_a_port_of_ours_beyond_loopback_is_a_problem_and_one_of_rays_a_warning() -> None:
    replica = "ray::ServeReplica:fastserve:Ingress"
    found = [
        Listener("127.0.0.1", 8000, "haproxy -f x"),
        Listener("::1", 8001, "haproxy -f x"),
        Listener("0.0.0.0", 8000, "haproxy -f x"),
        Listener("0.0.0.0", 9101, "haproxy -f x"),
        Listener("::", 6379, "gcs_server --x"),
        Listener("0.0.0.0", 30_000, replica),
        Listener("10.0.0.1", 31_001, replica),
        Listener("::", 45_000, replica),
        Listener("::", 45_001, "ray::ProxyActor"),
        Listener("0.0.0.0", 8000, "ray::ProxyActor"),
    ]
    assert [(one.level, one.subject, one.advice[:14]) for one in port_findings(found, Ports.of({}))] == [
        ("problem", "port 8000 on 0.0.0.0", "Set http_optio"),
        ("problem", "port 9101 on 0.0.0.0", "Leave FASTSERV"),
        ("warning", "port 6379 on ::", "A port of Ray'"),
        ("problem", "port 30000 on 0.0.0.0", "HAProxy and re"),
        ("warning", "port 31001 on 10.0.0.1", "HAProxy and re"),
        ("warning", "port 45000 on ::", "A port of Ray'"),
        ("warning", "port 45001 on ::", "A port of Ray'"),
        ("problem", "port 8000 on 0.0.0.0", "Set http_optio"),
    ]
    assert [one.level for one in port_findings(found[:2], Ports.of({}))] == ["ok"]
    moved = Ports.of({"RAY_SERVE_HAPROXY_METRICS_PORT": "8000"})
    assert [one.advice[:14] for one in port_findings(found[2:3], moved)] == ["Leave FASTSERV"]


def test_looking_at_ports_gives_no_other_programs() -> None:
    assert all(
        "ray" in one.program or "haproxy" in one.program or "gcs" in one.program for one in listeners()
    )


@pytest.mark.parametrize(
    ("environ", "has_file", "level"),
    [
        ({}, False, "problem"),
        ({}, True, "ok"),
        ({"RAY_AUTH_MODE": "disabled"}, True, "problem"),
        ({"RAY_AUTH_MODE": "token"}, True, "ok"),
        ({"RAY_AUTH_MODE": "token"}, False, "problem"),
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "x"}, False, "ok"),
    ],
)
def test_rays_token_must_be_on_and_there(
    environ: dict[str, str], has_file: bool, level: str, tmp_path: Path
) -> None:
    if has_file:
        (tmp_path / ".ray").mkdir()
        (tmp_path / ".ray" / "auth_token").write_text("x")
        (tmp_path / ".ray" / "auth_token").chmod(0o600)
    finding = auth_finding(environ, tmp_path)
    assert finding.level == level
    assert bool(finding.advice) == (level == "problem")


def test_a_token_that_others_may_read_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "token").touch(0o600)
    (tmp_path / "token").chmod(0o644)
    finding = auth_finding({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": f"{tmp_path}/token"}, tmp_path)
    assert (finding.level, finding.advice) == ("problem", f"Run `chmod 600 {tmp_path}/token`.")


def test_a_key_that_others_may_read_is_a_problem_with_its_command(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    (tmp_path / "key").write_text("secret")
    (tmp_path / "key").chmod(0o644)
    keys = tmp_path / "of-a-secret.yaml"
    keys.touch(0o640)
    home, key, key_file = mode_findings(tmp_path, keys)
    assert home.level == "ok"
    assert (key.level, key.state, key.advice) == ("problem", "mode 644", f"Run `chmod 600 {tmp_path}/key`.")
    assert key_file.level == "ok", "its group may read it"


def test_a_store_is_read_and_never_made(tmp_path: Path) -> None:
    file = tmp_path / "table.sqlite3"
    assert store_finding(f"sqlite:///{file}").state == "not made yet"
    assert not file.exists()
    sqlite3.connect(file).execute("CREATE TABLE a (b)").connection.close()
    assert store_finding(f"sqlite:///{file}").level == "ok"
    file.write_bytes(b"no database at all" * 100)
    assert store_finding(f"sqlite:///{file}").level == "problem"
    assert "secret" not in store_finding("postgresql://user:secret@host/db").subject


def test_versions_are_held_against_the_declared_bounds() -> None:
    declared = ["ray[serve]<2.61,>=2.60", "vllm<0.33,>=0.32; extra == 'gpu'", "numpy>=1"]

    def installed(name: str) -> str:
        if name == "vllm":
            raise PackageNotFoundError
        return "2.61.0"

    ray, vllm = version_findings(declared, installed)
    assert (ray.level, ray.state) == ("problem", "2.61.0")
    assert "2.60" in ray.advice
    assert (vllm.level, vllm.state) == ("warning", "not installed")


def test_open_files_must_do_for_the_connections_that_are_asked_for() -> None:
    assert files_finding(1_048_576, {}).level == "ok"
    few = files_finding(1024, {})
    assert (few.level, few.state) == ("warning", "1024: 393 connections at once")
    assert files_finding(1024, {"FASTSERVE_CONNECTIONS": "300"}).level == "ok"


def test_a_certificate_that_ends_soon_is_a_warning_and_one_that_cannot_be_used_a_problem(
    tmp_path: Path,
) -> None:
    authority, now = Authority(tmp_path), datetime.now(UTC)
    levels = []
    for days in (90.5, 5.5, -4.5):
        found = authority.sign("pool.example", days)
        named = {CHAIN_ENV: str(found.chain), KEY_ENV: str(found.key)}
        levels += [(one.level, one.state) for one in certificate_findings(named, now)]
    assert levels == [
        ("ok", "ends in 90 days"),
        ("warning", "ends in 5 days"),
        ("problem", "ends in -5 days"),
    ]
    found.key.chmod(0o644)
    (broken,) = certificate_findings(named, now)
    assert broken.level == "problem"
    assert "chmod 600" in broken.state
    assert list(certificate_findings({}, now)) == []


@pytest.mark.parametrize(
    ("program", "name"),
    [
        (
            "ray::ServeReplica:model-tiny:Model ray::ServeReplica:model-tiny:Model",
            "ray::ServeReplica:model-tiny:Model",
        ),
        ("gcs_server /usr/lib/ray/gcs_server --log_dir=/tmp/ray", "gcs_server"),
        (
            "python3 /usr/bin/python3 -u /usr/lib/ray/dashboard/dashboard.py --host=127.0.0.1",
            "python3 dashboard.py",
        ),
    ],
)
def test_a_program_is_told_in_few_words(program: str, name: str) -> None:
    assert Listener("::", 1, program).name == name


def test_an_engine_that_another_distribution_brings_counts_as_installed() -> None:
    findings = examine(Path("/nowhere"), Path("/nowhere/keys.yaml"), "sqlite:////nowhere/store.sqlite3")
    assert {one.subject: one.level for one in findings if one.subject in ("ray", "vllm")} == {
        "ray": "ok",
        "vllm": "ok",
    }
