"""Speed of the simulated environment, and of rollouts with one and two workers."""

import argparse
import logging
import time
from functools import partial

import numpy as np
import ray

from deployments.learning.rollout_group import RolloutGroup
from policies.training.trainer import TrainingConfig, new_network, parameters_of
from scripts.benchmarks.load.simulated_pool import ENVIRONMENTS, MODELS, make_env
from scripts.benchmarks.report import Report, bar, interval
from serve_app.console.text_table import print_table

LIMIT_PER_S = 100_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--steps", type=int, default=2000, help="vectorised steps per round (default 2000)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds (default 5)")
    parser.add_argument("--workers", default="1,2", help="rollout workers to try, '' for none (default 1,2)")


def run(args: argparse.Namespace) -> Report:
    """Random policy in this process, then whole rollouts through Ray actors."""
    wall, cpu = _environment(args.steps, args.rounds)
    rows = [
        ("environment, random policy, wall clock", *interval(wall)),
        ("environment, random policy, CPU time", *interval(cpu)),
    ]
    workers = [int(count) for count in args.workers.split(",") if count]
    rollouts = _rollouts(workers, args.rounds) if workers else {}
    rows += [
        (f"rollouts, {count} workers, wall clock", *interval(rates)) for count, rates in rollouts.items()
    ]
    print_table(("decisions/s", "mean", "± 95 %"), rows)
    mean, spread = interval(cpu)
    bars = (bar("decisions/s on one core", mean, ">=", LIMIT_PER_S, spread),)
    results = {
        "wall_per_s": wall,
        "cpu_per_s": cpu,
        "rollouts_per_s": {str(k): v for k, v in rollouts.items()},
    }
    return Report("simulator", bars, results)


def _environment(steps: int, rounds: int) -> tuple[list[float], list[float]]:
    """Decisions per second of wall clock and of CPU time, one number per round."""
    env = make_env(0)
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    actions = rng.integers(0, MODELS, (steps, ENVIRONMENTS))
    for action in actions[:200]:  # compiles, and fills the queues
        env.step(action)
    wall, cpu = [], []
    for _ in range(rounds):
        started, used = time.perf_counter(), time.process_time()
        for action in actions:
            env.step(action)
        wall.append(steps * ENVIRONMENTS / (time.perf_counter() - started))
        cpu.append(steps * ENVIRONMENTS / (time.process_time() - used))
    return wall, cpu


def _rollouts(counts: list[int], rounds: int) -> dict[int, list[float]]:
    """Decisions per second with network, features and credit, by number of workers."""
    config = TrainingConfig(steps=128, lag=128)
    weights = parameters_of(new_network(config))
    found: dict[int, list[float]] = {}
    ray.init(
        num_cpus=max(counts), include_dashboard=False, logging_level=logging.WARNING, log_to_driver=False
    )
    try:
        for count in counts:
            group = RolloutGroup(partial(make_env), config, count)
            group.sample(weights, config.steps)
            rates = []
            for _ in range(rounds):
                started = time.perf_counter()
                decisions = group.sample(weights, config.steps).decisions
                rates.append(decisions / (time.perf_counter() - started))
            found[count] = rates
            group.close()
    finally:
        ray.shutdown()
    return found
