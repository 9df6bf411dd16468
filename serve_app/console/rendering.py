"""The performance table and its health as people read them in a terminal."""

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from deployments.dispatch.columns import is_usable
from deployments.records.snapshot import Estimate, ModelRow, Quantiles, ReplicaRow, Snapshot
from policies.decider import version_name

NOTHING: Final = "–"


def duration(seconds: float) -> str:
    """With three digits and the fitting unit."""
    if math.isnan(seconds):
        return NOTHING
    if seconds < 1.0:
        return f"{1000 * seconds:.3g} ms"
    if seconds < 120.0:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200.0 else f"{seconds / 3600:.0f} h"


def _span(quantiles: Quantiles) -> str:
    if quantiles.count == 0:
        return NOTHING
    return f"{duration(quantiles.p50)} / {duration(quantiles.p95)}"


def _score(estimate: Estimate | None) -> str:
    if estimate is None or estimate.count == 0:
        return NOTHING
    return f"{estimate.mean:.3f} [{estimate.low:.2f}, {estimate.high:.2f}]"


def _share(value: float) -> str:
    return f"{100 * value:.0f} %"


def _health(row: ModelRow, taken_at_s: float) -> Text:
    usable = sum(is_usable(replica, taken_at_s) for replica in row.replicas)
    if not usable and row.ready_in_s > 0.0:
        return Text("asleep", style="green")
    style = "green" if usable and usable == len(row.replicas) else "yellow" if usable else "red"
    return Text(f"{usable}/{len(row.replicas)} warm", style=style)


def _table(title: str, left: Sequence[str], right: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for name in left:
        table.add_column(name, no_wrap=True)
    for name in right:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def models_table(snapshot: Snapshot) -> Table:
    """One line a model."""
    numbers = (
        "accuracy [95 %]",
        "TTFT p50 / p95",
        "TPOT p50",
        "latency p50 / p95",
        "tok/s",
        "in flight",
        "waiting",
        "KV",
        "errors",
        "requests",
        "USD",
    )
    table = _table("", ("model", "replicas"), numbers)
    for name, row in sorted(snapshot.models.items()):
        warm = [replica for replica in row.replicas if is_usable(replica, snapshot.taken_at_s)]
        table.add_row(
            name,
            _health(row, snapshot.taken_at_s),
            _score(row.accuracy.get("")),
            _span(row.ttft_s),
            duration(row.tpot_s.p50),
            _span(row.e2e_s),
            f"{row.tokens_per_s:.0f}",
            str(row.in_flight),
            str(sum(replica.waiting for replica in row.replicas)),
            _share(sum(replica.kv_use for replica in warm) / len(warm)) if warm else NOTHING,
            Text(_share(row.error_rate), style="red" if row.error_rate >= 0.05 else ""),
            f"{row.requests:,}",
            f"{row.cost_usd:.4g}",
        )
    return table


def replicas_table(snapshot: Snapshot) -> Table:
    """One line a replica."""
    numbers = ("running", "waiting", "slots", "KV", "prefix hits", "tok/s", "CPU", "GPU", "memory", "heard")
    table = _table("replicas", ("replica", "model", "state"), numbers)
    for _, row in sorted(snapshot.models.items()):
        for replica in row.replicas:
            table.add_row(*_replica_cells(replica, snapshot.taken_at_s))
    return table


def _replica_cells(replica: ReplicaRow, taken_at_s: float) -> list[RenderableType]:
    style = "green" if is_usable(replica, taken_at_s) else "yellow"
    return [
        replica.replica,
        replica.model,
        Text(replica.state.value, style=style),
        str(replica.running),
        str(replica.waiting),
        str(replica.slots),
        _share(replica.kv_use),
        _share(replica.prefix_hit_rate),
        f"{replica.tokens_per_s:.0f}",
        f"{replica.cpu_share:.2f}",
        _share(replica.gpu_share),
        f"{replica.memory_bytes / 2**30:.2f} GiB",
        f"{duration(max(0.0, taken_at_s - replica.pushed_at_s))} ago",
    ]


def tasks_table(snapshot: Snapshot) -> Table:
    """Accuracy of each model by task."""
    tasks = sorted({task for row in snapshot.models.values() for task in row.accuracy if task})
    table = _table("accuracy by task [95 %]", ("task",), sorted(snapshot.models))
    for task in tasks:
        cells = (_score(snapshot.models[model].accuracy.get(task)) for model in sorted(snapshot.models))
        table.add_row(task, *cells)
    return table


def snapshot_json(snapshot: Snapshot) -> str:
    """The snapshot on one line; what was never measured is null."""
    return msgspec.json.encode(snapshot).decode()


def table_page(snapshot: Snapshot, replicas: bool, tasks: bool) -> RenderableType:
    """All of what `fastserve table` shows."""
    age_s = max(0.0, time.time() - snapshot.taken_at_s)
    head = Text(f"performance table, version {snapshot.version}, {duration(age_s)} old", style="bold")
    if not snapshot.models:
        return Group(head, Text("No model has registered yet."))
    parts: list[RenderableType] = [head, models_table(snapshot)]
    parts += ["", replicas_table(snapshot)] if replicas else []
    parts += ["", tasks_table(snapshot)] if tasks else []
    return Group(*parts)


def status_page(status: Mapping[str, Any], problems: Sequence[str]) -> RenderableType:
    """All of what `fastserve status` shows."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")  # all of it can be read, however narrow the terminal is
    for name, state in sorted(status["applications"].items()):
        table.add_row(f"application {name}", Text(state, style="green" if state == "RUNNING" else "yellow"))
    for name, model in sorted(status["models"].items()):
        told, style = f"{model['usable']} of {model['replicas']} replicas usable", "red"
        if model["usable"]:
            style = "green"
        elif model["ready_in_s"]:
            told, style = f"asleep, would serve in {duration(model['ready_in_s'])}", "green"
        table.add_row(f"model {name}", Text(told, style=style))
    policy = status["policy"]
    table.add_row("policy", version_name(policy.get("active")))
    if candidate := policy.get("candidate"):
        name = version_name(candidate["version"])
        table.add_row("candidate", f"{name}, {candidate['stage']} {candidate['share']:.0%}")
    core = status["table"]
    table.add_row("table", f"up {duration(core['up_s'])}, hears {len(core['ingresses'])} ingress replicas")
    store = core["store"]
    rows = ", ".join(f"{count:,} {name}" for name, count in store["rows"].items())
    table.add_row("store", f"{store['url']}: {rows or store['error']}")
    verdict = [Text(f"! {problem}", style="red") for problem in problems] or [Text("all well", style="green")]
    return Group(table, *verdict)
