from argparse import Namespace

from scripts.benchmarks.table import week


def test_a_thin_week_keeps_within_retention_and_counts_each_outcome_once() -> None:
    report = week.run(Namespace(scale=2000, rows=200_000))
    passed = {one.name: one.passed for one in report.bars}
    assert passed["week.rows_of_retention"]
    assert passed["week.outcomes_miscounted"]
    assert report.results["sent"] == 3_000
