"""Learning curves over seeds, with intervals, as a PNG."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from scripts.benchmarks.load.jobs import Trained
from scripts.benchmarks.report import interval

_POINTS = 60
_SHOWN = {
    "reward": "mean reward of a decision",
    "entropy": "entropy, nats",
    "explained_variance": "explained variance of V",
}


def draw(runs: Sequence[Trained], path: Path) -> None:
    """One panel per quantity: mean over seeds, band of its 95 % interval, each seed as a thin line."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(_SHOWN), figsize=(14, 4), layout="constrained")
    for axis, (name, label) in zip(axes, _SHOWN.items(), strict=True):
        grid, curves = _on_grid(runs, name)
        spread = [interval(column) for column in curves.T]
        mean, half = (np.array(values) for values in zip(*spread, strict=True))
        for curve in curves:
            axis.plot(grid, curve, color="tab:blue", alpha=0.25, linewidth=0.8)
        axis.plot(grid, mean, color="tab:blue")
        axis.fill_between(grid, mean - half, mean + half, color="tab:blue", alpha=0.25)
        axis.set_xlabel("decisions")
        axis.set_ylabel(label)
        axis.grid(alpha=0.3)
    figure.suptitle(f"PPO on the simulated pool, {len(runs)} seeds, mean and 95 % interval")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _on_grid(runs: Sequence[Trained], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Decisions [P] and smoothed values [runs, P] of one logged quantity."""
    last = min(run.curve[-1][0] for run in runs)
    grid = np.linspace(runs[0].curve[0][0], last, _POINTS)
    curves = []
    for run in runs:
        known = [(at, metrics[name]) for at, metrics in run.curve if name in metrics]
        decisions, values = np.array(known).T  # an update stopped at once logs no losses
        width = max(1, len(values) // _POINTS)
        padded = np.pad(values, (width // 2, width - 1 - width // 2), mode="edge")
        smooth = np.convolve(padded, np.ones(width) / width, mode="valid")
        curves.append(np.interp(grid, decisions, smooth))
    return grid, np.array(curves)
