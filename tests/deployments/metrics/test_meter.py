"""Counters are summed before they go to Ray; nothing is lost or counted twice."""

import threading

from deployments.metrics.meter import LABEL_SETS, OTHER, RayMeter
from deployments.metrics.names import Metric


class Recorded(RayMeter):
    """Keeps what would go to Ray."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, float, tuple[str, ...]]] = []
        self.is_down = False

    def _hand_over(self, metric: Metric, value: float, labels: tuple[str, ...]) -> None:
        if self.is_down:
            raise RuntimeError("Ray has gone")
        self.calls.append((metric.name, value, labels))


def counted(meter: Recorded, name: str) -> dict[tuple[str, ...], float]:
    found: dict[tuple[str, ...], float] = {}
    for metric, value, labels in meter.calls:
        if metric == name:
            found[labels] = found.get(labels, 0.0) + value
    return found


def test_counters_reach_ray_as_sums_and_gauges_at_once() -> None:
    meter = Recorded()
    for _ in range(1000):
        meter.count("fastserve_cost", ("a",), 0.5)
    meter.gauge("fastserve_snapshot_age", (), 3.0)
    meter.flush()
    meter.flush()
    assert counted(meter, "fastserve_cost") == {("a",): 500.0}
    assert len(meter.calls) < 50  # and not a thousand
    assert ("fastserve_snapshot_age", 3.0, ()) in meter.calls


def test_what_is_counted_while_sums_are_handed_over_is_kept() -> None:
    meter = Recorded()
    threads = [
        threading.Thread(target=lambda: [meter.count("fastserve_degraded", ("m",)) for _ in range(20_000)])
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        meter.flush()
    meter.flush()
    assert counted(meter, "fastserve_degraded") == {("m",): 60_000.0}


def test_what_ray_does_not_take_is_offered_again() -> None:
    meter = Recorded()
    meter.is_down = True
    meter.count("fastserve_degraded", ("m",), 2.0)
    meter.count("fastserve_cost", ("a",), 0.5)
    meter.flush()
    assert not meter.calls
    meter.is_down = False
    meter.flush()
    meter.flush()
    assert (counted(meter, "fastserve_degraded"), counted(meter, "fastserve_cost")) == (
        {("m",): 2.0},
        {("a",): 0.5},
    )


def test_series_stay_bounded() -> None:
    meter = Recorded()
    for number in range(LABEL_SETS + 5):
        meter.count("fastserve_degraded", (f"mode-{number}",))
    meter.flush()
    assert counted(meter, "fastserve_degraded")[(OTHER,)] == 5.0
