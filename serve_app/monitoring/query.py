"""Queries in PromQL over the declared metrics; a name or label that is not declared is an error."""

import re
from collections.abc import Sequence
from typing import Final

from deployments.metrics.names import BY_NAME, Kind

INTERVAL: Final = "$__rate_interval"  # Grafana puts in a time that fits the panel and how often is scraped
RANGE: Final = "$__range"

Labels = Sequence[str]
Filters = Sequence[str]  # such as `status="failed"` or `model=~"$model"`


def value(name: str, by: Labels = (), where: Filters = (), how: str = "sum") -> str:
    """A gauge over all processes that set it."""
    return _over(how, by, _series(name, Kind.GAUGE, "", by, where))


def rate(name: str, by: Labels = (), where: Filters = (), window: str = INTERVAL) -> str:
    """How fast a counter grows, in its unit per second, over all processes."""
    return _over("sum", by, f"rate({_series(name, Kind.COUNTER, '', by, where)}[{window}])")


def added(name: str, by: Labels = (), where: Filters = (), window: str = RANGE) -> str:
    """By how much a counter grew, over all processes."""
    return _over("sum", by, f"increase({_series(name, Kind.COUNTER, '', by, where)}[{window}])")


def grew(name: str, by: Labels, window: str, where: Filters = ()) -> str:
    """Where a counter grew. A series that began within the window counts: its first value is an event too."""
    series = _series(name, Kind.COUNTER, "", by, where)
    older, new = f"increase({series}[{window}]) > 0", f"{series} unless {series} offset {window}"
    return f"{_over('sum', by, older)} or {_over('sum', by, new)}"


def quantile(q: float, name: str, by: Labels = (), where: Filters = (), window: str = INTERVAL) -> str:
    """A percentile of a histogram."""
    buckets = f"rate({_series(name, Kind.HISTOGRAM, '_bucket', by, where)}[{window}])"
    return f"histogram_quantile({q}, {_over('sum', ('le', *by), buckets)})"


def histogram_rate(name: str, part: str, by: Labels = (), where: Filters = (), window: str = INTERVAL) -> str:
    """How fast a histogram's `sum` or `count` grows per second."""
    return _over("sum", by, f"rate({_series(name, Kind.HISTOGRAM, f'_{part}', by, where)}[{window}])")


def share(part: str, whole: str) -> str:
    """Of a rate that is not zero, what a part of it is; a part that never was is 0."""
    return f"({part} or on() vector(0)) / ({whole} > 0)"


def of_all(part: str, whole: str) -> str:
    """A rate by label as shares of one that has no label."""
    return f"{part} / on() group_left() ({whole} > 0)"


def ratio(part: str, whole: str) -> str:
    """One rate over another, label by label; nothing where the other is zero."""
    return f"{part} / ({whole} > 0)"


def _series(name: str, kind: Kind, suffix: str, by: Labels, where: Filters) -> str:
    metric = BY_NAME[name]
    if metric.kind is not kind:
        raise ValueError(f"Metric '{name}' is a {metric.kind}, and is used as a {kind}.")
    used = {*by, *(re.split(r"[=!]", one)[0] for one in where)}
    if unknown := used - set(metric.labels) - {"replica"}:
        raise ValueError(f"Metric '{name}' has no label {sorted(unknown)}, only {list(metric.labels)}.")
    return f"{metric.exported}{suffix}" + ("{" + ",".join(where) + "}" if where else "")


def _over(how: str, by: Labels, inner: str) -> str:
    return f"{how} by ({', '.join(by)}) ({inner})" if by else f"{how}({inner})"
