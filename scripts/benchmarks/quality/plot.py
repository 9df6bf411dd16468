"""Draws a reliability diagram: `python -m scripts.benchmarks.quality.plot RESULT.json PLOT.png`."""

import json
import sys
from pathlib import Path


def draw(source: Path, target: Path) -> None:
    """Mean score against mean prediction in ten equally filled bins."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    report = json.loads(source.read_text(encoding="utf-8"))
    check = report["results"]["calibration"]
    predicted, real, _ = zip(*check["reliability"], strict=True)
    figure, axes = pyplot.subplots(figsize=(4, 4), dpi=90)
    axes.plot((0, 1), (0, 1), color="0.7", linewidth=1)
    axes.plot(predicted, real, marker="o", color="#1f5fa8")
    axes.set(xlabel="predicted score", ylabel="mean score", xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.set_title(f"{report['name']}: error {check['expected_calibration_error']:.3f}", fontsize=9)
    figure.tight_layout()
    figure.savefig(target)


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
