import gzip
from pathlib import Path

import numpy as np
import pytest

from policies.simulator import arrivals
from policies.simulator.arrivals import Trace, read_trace


def _trace(n: int = 100) -> Trace:
    return Trace(np.arange(n, dtype=float), np.full(n, 10.0), np.full(n, 5.0))


def test_reads_plain_and_gzipped_csv(tmp_path: Path) -> None:
    text = "arrival_s,prompt_tokens,output_tokens\n5.0,10,3\n6.5,20,4\n"
    plain, packed = tmp_path / "a.csv", tmp_path / "a.csv.gz"
    plain.write_text(text)
    packed.write_bytes(gzip.compress(text.encode()))
    for path in (plain, packed):
        trace = read_trace(path)
        assert trace.arrival_s.tolist() == [0.0, 1.5]
        assert trace.prompt_tokens.tolist() == [10.0, 20.0]
        assert trace.output_tokens.tolist() == [3.0, 4.0]


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("arrival_s,prompt_tokens\n0,1\n1,1\n", "output_tokens"),
        ("arrival_s,prompt_tokens,output_tokens\n0,1,1\n1,x,1\n", "line 3"),
        ("arrival_s,prompt_tokens,output_tokens\n0,1,1\n1,1\n", "line 3"),
        ("arrival_s,prompt_tokens,output_tokens\n0,1,1\n1,-1,1\n", "not negative"),
        ("arrival_s,prompt_tokens,output_tokens\n1,1,1\n0,1,1\n", "descend"),
        ("arrival_s,prompt_tokens,output_tokens\n1,1,1\n", "at least 2"),
    ],
)
def test_bad_traces_are_refused_with_the_rule(tmp_path: Path, text: str, rule: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=rule):
        read_trace(path)


def test_rate_and_parts() -> None:
    trace = _trace()
    assert trace.rate_per_s == pytest.approx(1.0)
    assert trace.at_rate(4.0).rate_per_s == pytest.approx(4.0)
    second = trace.part(0.5, 1.0)
    assert len(second) == 50
    assert second.arrival_s[0] == 0.0
    with pytest.raises(ValueError, match="too short"):
        trace.part(0.5, 0.5)


@pytest.mark.parametrize("seed", range(3))
def test_processes_have_the_rate_that_was_asked_for(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, rate = 40_000, 7.0
    for times in (
        arrivals.poisson(rate, n, rng),
        arrivals.gamma_bursts(rate, 3.0, n, rng),
        arrivals.square_wave(2.0, 12.0, 60.0, n, rng),
        arrivals.day_curve(rate, 1.5, 600.0, n, rng),
    ):
        assert np.all(np.diff(times) >= 0.0)
        assert (n - 1) / times[-1] == pytest.approx(rate, rel=0.06)


def test_gamma_gaps_have_the_variation_that_was_asked_for() -> None:
    gaps = np.diff(arrivals.gamma_bursts(5.0, 4.0, 100_000, np.random.default_rng(0)))
    assert gaps.std() / gaps.mean() == pytest.approx(4.0, rel=0.05)


def test_square_wave_alternates_between_its_rates() -> None:
    times = arrivals.square_wave(6.0, 40.0, 60.0, 40_000, np.random.default_rng(0))
    phase = times % 60.0
    low, high = (phase < 30.0).sum(), (phase >= 30.0).sum()
    assert high / low == pytest.approx(40.0 / 6.0, rel=0.05)


def test_day_curve_peaks_in_the_middle() -> None:
    times = arrivals.day_curve(10.0, 1.8, 600.0, 60_000, np.random.default_rng(0))
    counts, _ = np.histogram(times[times < 6000.0] % 600.0, bins=6)
    assert counts[2:4].min() > 2 * counts[[0, 5]].max()
    with pytest.raises(ValueError, match="peak_to_mean"):
        arrivals.day_curve(10.0, 2.5, 600.0, 10, np.random.default_rng(0))
