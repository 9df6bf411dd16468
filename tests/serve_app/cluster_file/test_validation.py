"""A wrong file is refused with file, line or path and the way out, and nothing in it is ever executed."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_app.cli import main
from serve_app.cluster_file.document import FileError, parse_document
from serve_app.cluster_file.validation import problems_of, validated
from serve_app.console.errors import REFUSED
from serve_app.http.certificate import CHAIN_ENV, KEY_ENV, Certificate
from tests.certificates import Authority
from tests.serve_app.cluster_file.broken_files import BROKEN, GOOD, ROOT, Broken


@pytest.mark.parametrize("name", ["cluster.yaml", "cluster.gpu.yaml"])
def test_the_shipped_files_are_valid(name: str) -> None:
    assert validated(ROOT / name, engines=False).values["applications"]


def test_there_is_a_broken_file_for_each_of_forty_classes() -> None:
    assert len({broken.name for broken in BROKEN}) == len(BROKEN) >= 40


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.name)
def test_a_broken_file_is_refused_with_its_place_and_the_way_out(broken: Broken, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(broken.text())
    with pytest.raises(FileError) as caught:
        validated(path, engines=False)
    shown = [problem.text("config.yaml") for problem in caught.value.problems]
    assert [line for line in shown if broken.place in line and broken.advice in line], shown
    assert all(line.endswith((".", "?")) for line in shown), shown


def test_a_tag_is_not_followed(tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    attack = f"a: !!python/object/apply:os.system ['touch {proof}']\n"
    with pytest.raises(FileError, match="tag"):
        parse_document(attack.encode())
    assert not proof.exists()


def with_certificate(found: Certificate, haproxy: str = "1") -> list[str]:
    """What is wrong with a file that names it."""
    switch = f'RAY_SERVE_ENABLE_HA_PROXY: "{haproxy}"'
    named = f"      {CHAIN_ENV}: {found.chain}\n      {KEY_ENV}: {found.key}\n"
    text = GOOD.replace('RAY_SERVE_ENABLE_HA_PROXY: "1"\n', f"{switch}\n{named}")
    return [problem.message for problem in problems_of(parse_document(text.encode()))]


def test_a_certificate_is_held_to_its_key_its_mode_and_its_time(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    good = authority.sign("pool.example")
    assert with_certificate(good) == []
    (ended,) = with_certificate(authority.sign("old.example", days=-3))
    assert ended.endswith("renew it.")
    (strange,) = with_certificate(good._replace(key=authority.sign("other.example").key))
    assert "are not a pair" in strange
    good.key.chmod(0o644)
    (open_to_all,) = with_certificate(good)
    assert "chmod 600" in open_to_all


def test_a_certificate_that_no_haproxy_would_show_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_SERVE_ENABLE_HA_PROXY", raising=False)
    said = with_certificate(Authority(tmp_path).sign("pool.example"), haproxy="0")
    assert any("only HAProxy shows it" in one for one in said)


def test_several_mistakes_are_all_named_in_order_of_lines() -> None:
    text = GOOD.replace("epsilon: 0.02", "epsilon: 7").replace("num_replicas: 1", "num_replica: 1")
    lines = [problem.line for problem in problems_of(parse_document(text.encode()))]
    assert len(lines) == 2
    assert lines == sorted(lines)
    assert 0 not in lines


def is_read_or_refused(data: bytes) -> bool:
    """Whether the data gives a document with its problems, or a FileError that has some."""
    try:
        problems_of(parse_document(data))
    except FileError as error:
        return bool(error.problems)
    return True


@given(st.binary(max_size=200))
def test_any_bytes_are_a_document_or_refused(data: bytes) -> None:
    assert is_read_or_refused(data)


@pytest.mark.parametrize("start", range(7))
def test_a_good_file_cut_at_any_line_is_read_or_refused(start: int) -> None:
    lines = GOOD.splitlines(keepends=True)
    for count in range(start, len(lines), 7):
        assert is_read_or_refused("".join(lines[:count]).encode()), count


@given(st.integers(min_value=0, max_value=len(GOOD)))
@settings(max_examples=30)
def test_a_good_file_cut_anywhere_is_read_or_refused(length: int) -> None:
    assert is_read_or_refused(GOOD[:length].encode())


def test_the_command_says_what_is_wrong_and_has_an_exit_code_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(GOOD.replace("beta: 20", "beta: -1"))
    line = GOOD[: GOOD.index("beta: 20")].count("\n") + 1
    place = "applications[0].deployments[2].user_config.dispatch.beta"
    assert main(["validate", "--no-engine-flags", str(path)]) == REFUSED
    assert f"{path}:{line}: {place}: -1: must be greater than 0." in capsys.readouterr().err
    assert main(["validate", "--no-engine-flags", "--json", str(path)]) == REFUSED
    assert json.loads(capsys.readouterr().out)["problems"][0]["path"] == place
    assert main(["validate", "--no-engine-flags", str(tmp_path / "none.yaml")]) == REFUSED
    assert "cannot be read (No such file or directory)" in capsys.readouterr().err


def test_a_good_file_is_valid(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "--no-engine-flags", str(ROOT / "cluster.yaml")]) == 0
    assert "is valid" in capsys.readouterr().out


def test_a_budget_in_the_key_file_needs_the_prices_of_its_models(tmp_path: Path) -> None:
    config, keys = tmp_path / "config.yaml", tmp_path / "keys.yaml"
    config.write_text(GOOD)
    assert validated(config, engines=False, keys=keys).values["applications"]
    keys.write_text("keys: [{name: web, key: 0123456789abcdef, limits: {usd_per_day: 1, models: [tiny]}}]\n")
    keys.chmod(0o600)
    with pytest.raises(FileError) as caught:
        validated(config, engines=False, keys=keys)
    [problem] = caught.value.problems
    assert problem.line > 0
    assert "'usd_per_day' of key 'web'" in problem.message
    assert "'tiny' has price 0" in problem.message
