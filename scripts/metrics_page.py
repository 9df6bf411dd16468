"""Writes docs/metrics.md from the lists of metrics and alerts: `python -m scripts.metrics_page [--check]`."""

import sys
from pathlib import Path
from typing import Final

from deployments.metrics.names import METRICS, Metric
from scripts.pages import write_or_check
from serve_app.monitoring.alerts import ALERTS, Alert

PAGE: Final = Path("docs/metrics.md")
_HEAD: Final = """# Metrics

Every replica and the performance table record these through Ray. They appear at the metrics port of each
Ray node and in Ray's dashboard, beside Ray's own (`ray_serve_*`) and the engine's (`ray_vllm_*`). Times are
in seconds. Ray adds `deployment`, `replica` and `application` to what a Serve replica records.

Names with `gen_ai_` follow OpenTelemetry's semantic conventions for generative AI, with `_` for `.`;
`gen_ai_request_model` is the request's `model` (`auto`, `auto:<profile>` or a model),
`gen_ai_response_model` the model that answered.

Labels are bounded. A name that is not served is recorded as `other`; policy versions are left out
(`learned@7` is recorded as `learned`); after 500 label sets of one metric every further set is recorded as
`other`.

This page is written by `python -m scripts.metrics_page` from the list that the code records by
(`deployments/metrics/names.py`).

"""
_TAIL: Final = """
## Where a request's latency goes
`ray_gen_ai_server_request_duration` is the whole. `ray_fastserve_queued_time` is the wait in the ingress
for a slot, `ray_fastserve_ingress_time` the rest of the part in the ingress, both measured there.
`ray_fastserve_queue_time` is the wait inside the engine, and `ray_fastserve_engine_time` the engine's whole
part with this wait, both measured in the model's replica. The rest is the network between the two.

## What survives a restart
Counters begin at 0 in each process, as Prometheus expects. `ray_fastserve_table_requests` is read from the
durable store: it counts every outcome that was ever acknowledged, over all restarts.

Decisions, outcomes and votes are stored for 30 days (`FASTSERVE_RETENTION_DAYS`) or the last 200,000
decisions (`FASTSERVE_RETENTION_ROWS`, about 3 to 14 kB each, by the length of the prompt), whichever is
less. Graded answers of that age are removed once answers of a newer revision have replaced them. What was
learned stays, and so does every policy version with its verdicts. `python scripts/bench.py week` shows that
disk and memory stay flat over a week.

## What to alarm on
`fastserve monitoring` writes these alerts as rules for Prometheus ([monitoring.md](monitoring.md)); behind
each name stands what it means and what to do. `critical`: users are refused or lose something; `warning`:
look today; `info`: for the record.

"""


def row(metric: Metric) -> str:
    """A metric's line of the table."""
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    return f"| `{metric.exported}` | {metric.kind} | {metric.unit} | {labels} | {metric.meaning} |"


def alarm(alert: Alert) -> str:
    """An alert's line of the table."""
    return f"| [{alert.name}](operations.md#{alert.anchor}) | {alert.severity} | {alert.told} |"


def page() -> str:
    """The whole page."""
    table = ["| metric | kind | unit | labels | meaning |", "| --- | --- | --- | --- | --- |"]
    alarms = ["| alert | severity | says |", "| --- | --- | --- |"]
    lists = ([*table, *map(row, METRICS)], [*alarms, *map(alarm, ALERTS)])
    metrics, alerts = ("\n".join(lines) + "\n" for lines in lists)
    return _HEAD + metrics + _TAIL + alerts


if __name__ == "__main__":
    sys.exit(write_or_check(__doc__, lambda: {PAGE: page()}))
