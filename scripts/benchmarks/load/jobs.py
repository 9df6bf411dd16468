"""One replay or one training as a job for a worker process: everything a job needs travels with it."""

import hashlib
import os
import pickle
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from tqdm import tqdm

from policies.learned.policy import LearnedPolicy
from policies.policy import FormulaPolicy, Policy
from policies.priced import PricedPolicy
from policies.simulator.replay import Requests, replay
from policies.simulator.scenario import Scenario
from policies.simulator.simulator import QueueSimulator
from policies.training.trainer import LocalRunners, Trainer, TrainingConfig
from scripts.benchmarks.load.dispatchers import baselines, clairvoyants
from scripts.benchmarks.load.study import MakeEnv, Study

T = TypeVar("T")
FORMULA = "formula"
PRICED = "priced rule (g = 0)"
SERVED_BETA = TrainingConfig().beta * TrainingConfig().sharpness  # that of a learned policy


@dataclass(frozen=True, slots=True)
class Replay:
    """One episode against one configuration of one dispatcher; `policy` holds a learned policy's bytes."""

    dispatcher: str
    configuration: str
    scenario: Scenario
    seed: int
    train: bool
    requests: int | None = None
    policy: bytes | None = None
    blind: bool = False


def run_replay(study: Study, job: Replay) -> Requests:
    """Make the policy afresh, replay, return the requests."""
    torch.set_num_threads(1)
    simulator = study.simulator()
    simulator.queues.pools["blind"] = job.blind
    policy = _policy(study, job, simulator)
    episode = study.episode(job.scenario, job.seed, train=job.train, requests=job.requests)
    return replay(simulator, policy, episode, job.seed)


def _policy(study: Study, job: Replay, simulator: QueueSimulator) -> Policy:
    if job.policy is not None:
        return LearnedPolicy.from_bytes(job.policy)
    if job.dispatcher == FORMULA:
        return FormulaPolicy(SERVED_BETA)
    if job.dispatcher == PRICED:
        return PricedPolicy(SERVED_BETA)
    known = {dispatcher.name: dispatcher for dispatcher in [*baselines(study), *clairvoyants()]}
    return known[job.dispatcher].configurations[job.configuration](simulator, job.scenario.load)


@dataclass(frozen=True, slots=True)
class Training:
    """One training run. `blind` hides the live load; `horizon_s` in the config is the discount."""

    name: str
    config: TrainingConfig
    blind: bool = False


@dataclass(frozen=True, slots=True)
class Trained:
    """A policy's bytes, seconds it took, and the logged metrics: (decisions so far, metrics) per update."""

    name: str
    seed: int
    policy: bytes
    seconds: float
    curve: tuple[tuple[int, dict[str, float]], ...]


def run_training(study: Study, job: Training) -> Trained:
    """Train on the study's training stretch with the quality model's expected scores as qualities."""
    torch.set_num_threads(1)
    make_env = MakeEnv(replace(study, table=study.table.expected()), blind=job.blind)
    trainer = Trainer(job.config, LocalRunners(make_env, job.config))
    curve: list[tuple[int, dict[str, float]]] = []
    policy = trainer.run(lambda decisions, metrics: curve.append((decisions, dict(metrics))))
    seconds = float(np.sum([m["sample_s"] + m["update_s"] for _, m in curve]))
    return Trained(job.name, job.config.seed, policy.to_bytes(), seconds, tuple(curve))


@dataclass(frozen=True, slots=True)
class Kept:
    """Does a job once: its result is kept as a file named by the job, and read from there the next time."""

    work: Callable[[Any], Any]
    folder: Path

    def __call__(self, job: Any) -> Any:
        """The job's result."""
        path = self.folder / f"{hashlib.sha256(pickle.dumps(job)).hexdigest()[:24]}.pickle"
        if path.exists():
            return pickle.loads(path.read_bytes())
        result = self.work(job)
        partial = path.with_suffix(f".{os.getpid()}")
        partial.write_bytes(pickle.dumps(result))
        partial.replace(path)
        return result


def run_all(
    work: Callable[[Any], T], jobs: Iterable[Any], processes: int, title: str, keep: Path | None = None
) -> list[T]:
    """Results in the order of the jobs, made by worker processes, with a progress bar; `keep`: see Kept."""
    queued = list(jobs)
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        work = Kept(work, keep)
    if processes == 1:
        return [work(job) for job in tqdm(queued, desc=title)]
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        return list(tqdm(pool.map(work, queued), total=len(queued), desc=title))
