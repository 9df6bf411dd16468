"""Changes of a running pool under constant load: failed requests, and p99 during each change beside before.

The simulated engine by default; `--real` takes two models of cluster.yaml on the CPU.
"""

import argparse
import asyncio
import copy
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import yaml

from deployments.records.snapshot import ReplicaState, Snapshot
from deployments.table.connect import find_table
from policies.learned.checkpoint import new_manifest
from policies.learned.policy import LearnedPolicy
from policies.training.trainer import TrainingConfig, new_network, parameters_of
from scripts.benchmarks.report import Report, bar
from scripts.benchmarks.serving.private_pool import Document, document, own_ports, simulated_model
from scripts.benchmarks.serving.steady_load import Asked, SteadyLoad
from serve_app.commands.prepare import prepare
from serve_app.console.local_pool import LocalPool

Seen = Callable[[Snapshot], bool]

_LIMIT_S: Final = 240.0
_SIMULATED: Final = {"decode_step_s": 0.01, "mean_output_tokens": 16}
_REAL: Final = ("tiny", "smollm2-135m")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--real", action="store_true", help="two real models on the CPU instead")
    parser.add_argument("--rate", type=float, help="requests a second (default 8, with --real 1)")
    parser.add_argument("--before-s", type=float, default=15.0, help="seconds before a change (15)")


@dataclass(frozen=True, slots=True)
class Step:
    """One change: how the file is edited, and what the table must show afterwards."""

    name: str
    edit: Callable[[Document], None]
    seen: Seen


@dataclass(frozen=True, slots=True)
class Result:
    """One change as the load saw it. Latencies are whole answers, in seconds."""

    name: str
    took_s: float
    requests: int
    failed: int
    p99_before_s: float
    p99_during_s: float
    errors: tuple[str, ...]


def run(args: argparse.Namespace) -> Report:
    """Make each change in turn while the load goes on."""
    args.rate = args.rate or (1.0 if args.real else 8.0)
    with tempfile.TemporaryDirectory(prefix="fastserve-bench-") as folder, own_ports():
        served = _document(args.real)
        path = Path(folder, "cluster.yaml")
        path.write_text(yaml.safe_dump(served))
        if args.real:
            prepare(Path("cluster.yaml"))
        key = f"fs-bench-{os.urandom(16).hex()}"
        environment = {
            "FASTSERVE_API_KEY": key,
            "FASTSERVE_STORE": f"sqlite:///{folder}/store.sqlite3",
            **({} if args.real else {"FASTSERVE_HOME": folder}),
        }
        with LocalPool(path, environment) as pool:
            pool.wait_with_bar()
            results = list(_all_changes(pool, served, key, args))
    bars = [bar("failed requests", float(sum(one.failed for one in results)), "<=", 0.0)]
    rows = {one.name: {**{name: getattr(one, name) for name in Result.__slots__}} for one in results}
    return Report("redeploy", tuple(bars), {"engine": "real" if args.real else "simulated", "changes": rows})


def _document(real: bool) -> Document:
    """Two models, both also by name, before an endpoint with two replicas."""
    if not real:
        return document([simulated_model("first", _SIMULATED), simulated_model("second", _SIMULATED)])
    apps = {app["name"]: app for app in yaml.safe_load(Path("cluster.yaml").read_text())["applications"]}
    return document([apps[f"model-{name}"] for name in _REAL])


def _all_changes(pool: LocalPool, document: Document, key: str, args: argparse.Namespace) -> Iterator[Result]:
    names = [app["args"]["id"] for app in document["applications"] if app["name"] != "fastserve"]
    body = {"max_tokens": 16, "temperature": 0.0}
    _await(lambda snapshot: all(_warm(snapshot, name) for name in names))
    with SteadyLoad(pool.base_url, key, ("auto", names[0]), args.rate, body) as load:
        time.sleep(args.before_s)  # what the first requests compile and open is nobody's change
        for step in _steps(names[0], args.real):
            yield _measured(load, args.before_s, step.name, partial(_applied, pool, document, step))
        yield _measured(load, args.before_s, "swap the policy", _swap_policy)


def _measured(load: SteadyLoad, before_s: float, name: str, change: Callable[[], None]) -> Result:
    time.sleep(before_s)
    began_s = time.monotonic()
    change()
    done_s = time.monotonic()
    time.sleep(before_s)  # what a leaving replica still had shows here
    before = [one for one in load.asked if began_s - before_s <= one.began_s < began_s]
    during = [one for one in load.asked if began_s <= one.began_s]
    result = Result(
        name,
        done_s - began_s,
        len(before) + len(during),
        sum(bool(one.error) for one in (*before, *during)),
        _p99(before),
        _p99(during),
        tuple(sorted({f"{one.model}: {one.error}" for one in (*before, *during) if one.error}))[:5],
    )
    print(f"{name}: {result.took_s:.1f} s, {result.failed} of {result.requests} failed", flush=True)
    return result


def _p99(asked: Sequence[Asked]) -> float:
    whole = [one.took_s for one in asked if not one.error]
    return float(np.quantile(whole, 0.99)) if whole else 0.0


def _steps(model: str, real: bool) -> Iterator[Step]:
    """The changes, each from what the one before left. `model` is the one that is named by callers."""
    more = simulated_model("third", _SIMULATED)
    if real:
        everything: Document = yaml.safe_load(Path("cluster.yaml").read_text())
        more = next(app for app in everything["applications"] if app["name"] == "model-smollm2-tuned")
    added = more["args"]["id"]
    yield Step("add a model", lambda d: d["applications"].append(more), lambda s: _warm(s, added) == 1)
    yield Step("remove a model", lambda d: d["applications"].remove(more), lambda s: added not in s.models)
    yield Step(
        "change a price",
        lambda d: _live(d, model)["user_config"].update(price={"completion_usd_per_mtok": 0.5}),
        lambda s: s.models[model].card.completion_usd_per_mtok == 0.5,
    )
    before: set[str] = set()
    yield Step(
        "change engine arguments",
        lambda d: _change_engine(d, model, real, before),
        lambda s: bool(_warm(s, model)) and not before & {one.replica for one in s.models[model].replicas},
    )
    for count in (3, 1):
        yield Step(
            f"scale to {count}",
            lambda d, count=count: _live(d, model).update(num_replicas=count),  # type: ignore[misc]
            lambda s, count=count: len(s.models[model].replicas) == _warm(s, model) == count,  # type: ignore[misc]
        )
    yield Step("upgrade the ingress", _upgrade_ingress, lambda _: True)


def _change_engine(document: Document, model: str, real: bool, before: set[str]) -> None:
    before |= {one.replica for one in _snapshot().models[model].replicas}
    args = _app(document, model)["args"]
    if real:
        args["engine_args"]["max-num-seqs"] = 8
    else:
        args["simulated"]["max_sequences"] = 24


def _upgrade_ingress(document: Document) -> None:
    document["applications"][0]["args"]["max_in_flight"] = 1024


def _app(document: Document, model: str) -> Document:
    return next(app for app in document["applications"] if app["name"] == f"model-{model}")


def _live(document: Document, model: str) -> Document:
    entry: Document = _app(document, model)["deployments"][0]
    return entry


def _applied(pool: LocalPool, document: Document, step: Step) -> None:
    step.edit(document)
    pool.names = tuple(app["name"] for app in document["applications"])
    pool.deploy(copy.deepcopy(document))
    pool.wait(lambda *_: None, _LIMIT_S)
    _await(step.seen)


def _snapshot() -> Snapshot:
    return asyncio.run(find_table().snapshot("", 0, 1.0))


def _warm(snapshot: Snapshot, model: str) -> int:
    row = snapshot.models.get(model)
    return sum(one.state is ReplicaState.WARM for one in row.replicas) if row else 0


def _await(seen: Seen) -> None:
    until_s = time.monotonic() + _LIMIT_S
    while not seen(_snapshot()):
        if time.monotonic() > until_s:
            raise SystemExit(f"The table did not show the change within {_LIMIT_S:.0f} s.")
        time.sleep(0.2)


def _swap_policy() -> None:
    """A learned version in place of the formula, and the formula again."""
    asyncio.run(_swapped())


async def _swapped() -> None:
    table, version = find_table(), 1
    kept = {
        name: value
        for name, value in parameters_of(new_network(TrainingConfig(hidden=8))).items()
        if not name.startswith("value.")
    }
    policy = LearnedPolicy(kept, new_manifest(kept, 20.0, 8, {}))
    await table.put_artifact(f"policy:{version}", str(version), policy.to_bytes())
    state = await table.set_rollout(
        replace(await table.rollout(), active=version, last_version=version, promoted_s=time.time())
    )
    await asyncio.sleep(5.0)
    await table.set_rollout(replace(state, active=None, previous=None))
