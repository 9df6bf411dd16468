"""Draws what happened to the traffic of the learning demo over time."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from scripts.benchmarks.learning.traffic import Asked

_WINDOW_S: Final = 60.0
_LEAST: Final = 15  # requests that a mean is worth showing for
_MARKS: Final = {
    "trained": "tab:gray",
    "shadow": "tab:purple",
    "canary": "tab:orange",
    "promoted": "tab:green",
    "rolled_back": "tab:red",
}


def draw(log: Sequence[Asked], events: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Four panels over time: share by model, reward, accuracy, latency; events as vertical lines."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    log = sorted(log, key=lambda one: one.at_s)
    times = np.array([one.at_s for one in log])
    figure, panels = pyplot.subplots(4, 1, figsize=(9.0, 9.0), sharex=True, layout="constrained")
    for model in sorted({one.model for one in log if one.model}):
        _line(panels[0], times, np.array([one.model == model for one in log], float), model)
    _line(panels[1], times, np.array([one.utility for one in log]), "reward")
    _line(panels[2], times, np.array([one.score for one in log]), "accuracy")
    _line(panels[3], times, np.array([one.e2e_s for one in log]), "latency")
    for panel, title in zip(panels, ("share of traffic", "reward", "accuracy", "latency, s"), strict=True):
        panel.set_ylabel(title)
        panel.grid(alpha=0.3)
        for event in events:
            if event["kind"] in _MARKS:
                panel.axvline(event["at_s"], color=_MARKS[event["kind"]], linestyle="--", linewidth=1)
    for kind, colour in _MARKS.items():
        if any(event["kind"] == kind for event in events):
            panels[0].plot([], [], color=colour, linestyle="--", label=kind)
    panels[0].legend(fontsize="small", ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    panels[3].set_xlabel(f"seconds since the first request (means over {_WINDOW_S:.0f} s)")
    figure.savefig(path, dpi=100)


def _line(panel: Any, times: Any, values: Any, label: str) -> None:
    """A running mean over the last _WINDOW_S seconds."""
    starts = np.searchsorted(times, times - _WINDOW_S)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    counts = ends - starts
    means = (sums[ends] - sums[starts]) / counts
    panel.plot(times[counts >= _LEAST], means[counts >= _LEAST], label=label)
