"""What one decision costs on one core: features, predictions, masks, policy, sampling and the log record.

Requests go through the dispatcher that the ingress runs, over a pool of simulated rows whose snapshot
changes with every hundredth request, with a quality model and, in turn, the priced rule and a learned policy.
The bars are on wall time; CPU time is shown beside it, because other work on the machine counts in the former
only. What the ingress does once a snapshot, between requests, is shown as `prepare`.
"""

import argparse
import gc
import gzip
import json
import random
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from tokenizers import Tokenizer
from tqdm import tqdm

from deployments.dispatch.dispatcher import Dispatcher
from deployments.dispatch.request import DispatchRequest, Prompt
from deployments.dispatch.settings import DispatchSettings
from deployments.records.snapshot import ModelCard, ModelRow, Quantiles, ReplicaRow, ReplicaState, Snapshot
from policies.learned.checkpoint import new_manifest
from policies.learned.policy import LearnedPolicy
from policies.promotion.rollout import RolloutState
from policies.prompt.features import PromptFeatures, extract
from policies.quality.data import QualityData
from policies.quality.model import QualityModel
from policies.quality.training import QualitySettings, fit
from policies.training.network import DispatchNetwork
from policies.utility import DEFAULT_BETA
from scripts.benchmarks.report import Report, bar
from serve_app.console.text_table import print_table

P50_US: Final = {8: 100.0, 64: 250.0}  # by number of models
P99_US: Final = 600.0
P99_AT: Final = 8  # models
LONG_CHARACTERS: Final = 8_192
LONG_US: Final = 250.0  # of features, and of a token count, of so long a prompt
MEDIAN_CHARACTERS: Final = 111
P99_CHARACTERS: Final = 2_250
_WORDS: Final = (
    *("please", "the", "order", "of", "my", "account", "answer", "write", "list", "number", "with", "for"),
    *("to", "is", "a", "中文", "订单"),
)
_Z99: Final = 2.326
TOKENIZER: Final = Path(__file__).resolve().parents[3] / "models/tiny/tokenizer.json"
_FITTED: Final = 1_000  # prompts behind the quality model, about


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--models", default="2,8,64", help="pool sizes, comma-separated (default 2,8,64)")
    parser.add_argument("--data", type=Path, help="JSONL (.gz) with a 'prompt' a line (default: generated)")
    parser.add_argument("--decisions", type=int, default=5_000, help="timed decisions for each case")
    parser.add_argument("--seed", type=int, default=0)


def run(args: argparse.Namespace) -> Report:
    """Time every pool size with both policies."""
    sizes = [int(size) for size in args.models.split(",")]
    prompts = read_prompts(args.data) if args.data else made_prompts(2_000, args.seed)
    known = [extract(prompt) for prompt in prompts[:: max(1, len(prompts) // _FITTED)]]
    rows = []
    with tqdm(total=2 * len(sizes) * args.decisions, unit="decision") as progress:
        for size in sizes:
            quality = made_quality(size, known, args.seed)
            for policy in ("priced", "learned"):
                progress.set_postfix_str(f"{size} models, {policy}")
                rows.append(timed(PoolView(size, policy), quality, prompts, args.decisions, progress))
    heads = list(rows[0])
    lengths = np.percentile([len(prompt) for prompt in prompts], [50, 99])
    title = f"{len(prompts)} prompts, median {lengths[0]:.0f} and p99 {lengths[1]:.0f} characters"
    print_table(heads, [list(row.values()) for row in rows], title)
    bars = []
    for row in rows:
        name, limit = f"decision.{row['policy']}", P50_US.get(row["models"])
        if limit is not None:
            of = "" if row["models"] == P99_AT else f".{row['models']}"
            bars.append(bar(f"{name}{of}.p50_us", row["p50_us"], "<=", limit, row["p50_spread_us"]))
        if row["models"] == P99_AT:
            bars.append(bar(f"{name}.p99_us", row["p99_us"], "<=", P99_US))
    apart = timed_apart(prompts)
    print_table(("before the decision, a prompt of 8 kB", "p50 us"), list(apart.items()))
    bars += [bar(f"{what}, 8 kB, p50_us", value, "<=", LONG_US) for what, value in apart.items()]
    results = {"cases": rows, "apart_us": apart, "prompts": len(prompts)}
    results["characters_p50_p99"] = lengths.tolist()
    return Report("decision", tuple(bars), results)


def timed(
    view: "PoolView", quality: QualityModel, prompts: list[str], decisions: int, progress: Any
) -> dict[str, Any]:
    """Percentiles of one case, in microseconds; the spread of p50 is over ten parts of the run."""
    dispatcher = made_dispatcher(view, quality)
    gc.collect()
    gc.freeze()  # torch and the prompts are this script's, not the ingress's
    wall_ns, cpu_ns = np.empty(decisions), np.empty(decisions)
    prepared_s = []
    for i in range(-200, decisions):
        if i % 100 == 0:
            view.next_snapshot()
            began_s = time.perf_counter()
            dispatcher.prepare()  # as the ingress does when a snapshot comes, with no request waiting
            prepared_s.append(time.perf_counter() - began_s)
        prompt = Prompt(prompts[i % len(prompts)], max_tokens=256)
        request = DispatchRequest(f"d{i}", "auto", prompt, key_id="k")
        cpu, wall = time.thread_time_ns(), time.perf_counter_ns()
        dispatched = dispatcher.dispatch(request)
        if i >= 0:
            wall_ns[i], cpu_ns[i] = time.perf_counter_ns() - wall, time.thread_time_ns() - cpu
            view.count(dispatched.decision.model)
            progress.update()
    gc.unfreeze()
    if dispatcher.host.fallbacks:
        raise RuntimeError(f"The {view.policy} policy fell back: {dict(dispatcher.host.fallbacks)}.")
    parts = [float(np.median(part)) for part in np.array_split(wall_ns, 10)]
    p50, p90, p99 = np.percentile(wall_ns, [50, 90, 99]) / 1e3
    cpu_p50, cpu_p99 = np.percentile(cpu_ns, [50, 99]) / 1e3
    return {
        "models": len(view.snapshot.models),
        "policy": view.policy,
        "p50_us": float(p50),
        "p50_spread_us": 1.96 * float(np.std(parts)) / np.sqrt(len(parts)) / 1e3,
        "p90_us": float(p90),
        "p99_us": float(p99),
        "cpu_p50_us": float(cpu_p50),
        "cpu_p99_us": float(cpu_p99),
        "prepare_p50_us": float(np.median(prepared_s)) * 1e6,
    }


def timed_apart(prompts: list[str], times: int = 200) -> dict[str, float]:
    """p50 in microseconds of what a decision takes from a long prompt: its features, its count of tokens.

    A count is needed only where cheap bounds leave open whether a prompt fits; it runs in a thread.
    """
    text = " ".join(prompts)[:LONG_CHARACTERS]
    tokenizer = Tokenizer.from_file(str(TOKENIZER))
    ways: dict[str, Callable[[str], object]] = {
        "features": extract,
        "tokens": lambda text: tokenizer.encode_batch_fast([text]),
    }
    found = {}
    for name, way in ways.items():
        taken_s = []
        for i in range(times):
            other, began_s = f"{i} {text}"[:LONG_CHARACTERS], time.perf_counter()  # nothing is remembered
            way(other)
            taken_s.append(time.perf_counter() - began_s)
        found[name] = float(np.median(taken_s)) * 1e6
    return found


class PoolView:
    """A pool of `size` models with a load that moves."""

    def __init__(self, size: int, policy: str) -> None:
        self._random = random.Random(size)
        self._rows = {f"model-{i:02d}": made_row(i) for i in range(size)}
        self.policy = policy
        self._flight: dict[str, int] = {}
        self._version = 0
        self.snapshot = Snapshot("bench", 0, 0.0)
        self.next_snapshot()

    def next_snapshot(self) -> None:
        """The next version: replicas pushed again, the load is another."""
        self._version += 1
        self._flight = {name: self._random.randrange(8) for name in self._rows}
        rows = {
            name: replace(row, replicas=tuple(replace(r, running=self._flight[name]) for r in row.replicas))
            for name, row in self._rows.items()
        }
        state = RolloutState(active=1 if self.policy == "learned" else None)
        self.snapshot = Snapshot("bench", self._version, 0.0, rows, rollout=state)

    def count(self, model: str) -> None:
        """One request more in flight."""
        self._flight[model] += 1

    def age_s(self) -> float:
        """A fresh snapshot."""
        return 0.05

    def in_flight(self, model: str) -> int:
        """As counted."""
        return self._flight[model]


def made_row(i: int) -> ModelRow:
    """A model of two replicas; the later the larger, slower, dearer and better."""
    name, speed = f"model-{i:02d}", 0.01 * (1 + i % 8)
    card = ModelCard(
        name,
        "simulated",
        "none",
        32_768,
        accuracy_prior=0.4 + 0.05 * (i % 8),
        prompt_usd_per_mtok=0.1 * (1 + i % 8),
        completion_usd_per_mtok=0.4 * (1 + i % 8),
    )
    replicas = tuple(ReplicaRow(f"{name}#{k}", name, "", ReplicaState.WARM, slots=256) for k in range(2))
    return ModelRow(
        card,
        replicas,
        ttft_s=Quantiles(0.1, 0.2, 0.3, 0.1, 500),
        tpot_s=Quantiles(speed, speed, speed, speed, 500),
        output_tokens=Quantiles(120.0, 300.0, 500.0, 130.0, 500),
        requests=1_000,
    )


def made_dispatcher(view: PoolView, quality: QualityModel) -> Dispatcher:
    """A dispatcher with a quality model and a learned policy of the usual sizes, weights at random."""
    settings = {
        "exploration": {"usd_per_day": 1e9},
        "limits": {"in_flight_per_slot": 1e6},
        "guard": {"share_factor": 1e9},  # one key and a load that jumps: the alarm is not what is timed
    }
    dispatcher = Dispatcher(view, DispatchSettings.model_validate(settings))
    dispatcher.host.quality = quality
    dispatcher.host.hold(1, made_policy())
    return dispatcher


def made_quality(size: int, known: list[PromptFeatures], seed: int) -> QualityModel:
    """A quality model as the learner fits it, to random scores of prompts of the same kind: it knows most
    n-grams of the others, as after an evaluation. How well it is trained changes no time."""
    models = [f"model-{i:02d}" for i in range(size)]
    scores = np.random.default_rng(seed).random((len(known), size))
    return fit(QualityData.full(known, models, scores), QualitySettings(epochs=1, steps=1))


def made_policy() -> LearnedPolicy:
    """A learned policy as training starts it."""
    network = DispatchNetwork()
    tensors = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    return LearnedPolicy(tensors, new_manifest(tensors, DEFAULT_BETA, network.hidden, {}))


def read_prompts(path: Path) -> list[str]:
    """The prompts of a JSONL file."""
    opener: Any = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt") as file:
        return [str(json.loads(line)["prompt"]) for line in file]


def made_prompts(count: int, seed: int) -> list[str]:
    """Prompts whose lengths are log-normal with the median and 99th percentile of real ones."""
    rng = random.Random(seed)
    sigma = np.log(P99_CHARACTERS / MEDIAN_CHARACTERS) / _Z99
    prompts = []
    for _ in range(count):
        size = max(8, int(MEDIAN_CHARACTERS * np.exp(rng.gauss(0.0, sigma))))
        words = [rng.choice(_WORDS) + rng.choice(("", "", "s", "ing", "7")) for _ in range(size // 4 + 1)]
        prompts.append(" ".join(words)[:size])
    return prompts
