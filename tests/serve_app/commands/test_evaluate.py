"""The command's own part: suites by name, errors that say what to do, the printed tables."""

from pathlib import Path

import pytest

from deployments.evaluation.report import differences, summarise
from deployments.records.records import EvaluationRecord
from serve_app.cli import main
from serve_app.console.errors import UNREACHABLE, CommandError
from serve_app.console.evaluation import DEFAULT_SUITES, load_suites, print_report
from tests.deployments.fake_endpoint import sums_file


def records() -> list[EvaluationRecord]:
    return [
        EvaluationRecord(
            "sums", "1", f"i{n}", "add", "", model, "r", float(right), float(not right), ttft_s=0.5, e2e_s=1.0
        )
        for n in range(8)
        for model, right in (("good", True), ("poor", n < 2))
    ]


def test_the_tables_show_accuracy_with_interval_error_times_and_differences(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_report(summarise(records()), differences(records()))
    shown = capsys.readouterr().out
    assert "1.00 [0.68, 1.00] mse 0" in shown
    assert "0.25 [0.07, 0.59] mse 0.75" in shown
    assert "0.500/0.500" in shown
    assert "good - poor" in shown
    assert "+0.75" in shown


def test_the_projects_own_suites_are_the_default() -> None:
    suites = load_suites(sorted(DEFAULT_SUITES.glob("*.jsonl*")))
    assert {"customer-service", "content-creation", "document-generation", "recommendation"} <= {
        suite.name for suite in suites
    }


def test_two_suites_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with pytest.raises(CommandError, match="Two suites have the name 'sums'"):
        load_suites([sums_file(tmp_path), sums_file(tmp_path / "other")])


def test_a_bad_suite_is_named_by_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text("{}\n")
    with pytest.raises(CommandError, match=r"bad\.jsonl:1: "):
        load_suites([path])
    with pytest.raises(CommandError, match=r"No suite"):
        load_suites([])


def test_without_a_cluster_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--suite", str(sums_file(tmp_path)), "--address", "127.0.0.1:1"]) == UNREACHABLE
    assert "No Ray cluster answers" in capsys.readouterr().err
    assert main(["evaluate", "--suite", "nowhere.jsonl"]) == 1
    assert "nowhere.jsonl" in capsys.readouterr().err
