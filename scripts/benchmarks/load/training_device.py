"""PPO on the CPU and on another torch device: the same weights after a step, the time of each part."""

import argparse
import time
from collections.abc import Mapping
from functools import partial

import numpy as np
import torch
from tqdm import tqdm

from policies.training.env_runner import Rollout
from policies.training.ppo import PPO, PPOConfig
from policies.training.trainer import (
    LocalRunners,
    Parameters,
    Trainer,
    TrainingConfig,
    new_network,
    parameters_of,
)
from scripts.benchmarks.load.simulated_pool import make_env
from scripts.benchmarks.report import Report, bar, interval
from serve_app.console.text_table import print_table

LIMIT = 1e-3  # of a weight after one step; a step moves weights by up to the learning rate, 3e-3
HEADERS = (
    "environments", "hidden", "decisions", "cpu_s", "cpu_spread_s", "device_s", "device_spread_s", "apart",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--device", default="cuda", help="torch device to compare with (default cuda)")
    parser.add_argument("--environments", default="64,1024", help="simulated pools (default 64,1024)")
    parser.add_argument("--hidden", default="32,256", help="hidden units (default 32,256)")
    parser.add_argument("--rounds", type=int, default=5, help="updates to time (default 5)")
    parser.add_argument(
        "--decisions", type=int, default=65_536, help="decisions of a whole training (default 65,536)"
    )


def run(args: argparse.Namespace) -> Report:
    """Updates from the same rollout on both, then a whole training on each."""
    try:
        torch.zeros(1, device=args.device)
    except (AssertionError, RuntimeError) as error:
        raise SystemExit(f"Device '{args.device}' does not work here: {error}") from error
    rows = []
    for environments in _numbers(args.environments):
        rollout = _rollout(environments)
        for hidden in _numbers(args.hidden):
            rows.append((environments, hidden, rollout.decisions, *_compared(rollout, hidden, args)))
    print_table(HEADERS, rows)
    training = {device: _training(args.decisions, device) for device in ("cpu", args.device)}
    print_table(
        ("training", "decisions/s", "sampling, s", "updates, s"),
        [(device, *numbers.values()) for device, numbers in training.items()],
    )
    worst = max(float(row[-1]) for row in rows)
    return Report(
        "training_device",
        (bar("largest difference of a weight after one step", worst, "<=", LIMIT),),
        {
            "device": _name(args.device),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "updates": [dict(zip(HEADERS, row, strict=True)) for row in rows],
            "training": training,
        },
    )


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def _name(device: str) -> str:
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device


def _rollout(environments: int) -> Rollout:
    config = TrainingConfig()
    runners = LocalRunners(partial(make_env, environments=environments), config)
    return runners.sample(parameters_of(new_network(config)), config.steps)


def _compared(
    rollout: Rollout, hidden: int, args: argparse.Namespace
) -> tuple[float, float, float, float, float]:
    """Mean and interval of an update's seconds, CPU then device; how far one step takes the weights apart.

    One step over all decisions, since sums in another order make the paths of many steps part.
    """
    times, weights = list[float](), list[Parameters]()
    for device in ("cpu", args.device):
        one_step = PPOConfig(epochs=1, minibatch=rollout.decisions)
        times += interval(_seconds(_updater(hidden, device), rollout, args.rounds))
        ppo = _updater(hidden, device, one_step)
        ppo.update(rollout)
        weights.append(parameters_of(ppo.network))
    on_cpu, on_device = weights
    apart = max(float(np.abs(on_cpu[name] - on_device[name]).max()) for name in on_cpu)
    return times[0], times[1], times[2], times[3], apart


def _updater(hidden: int, device: str, config: PPOConfig | None = None) -> PPO:
    return PPO(new_network(TrainingConfig(hidden=hidden)).to(device), config or PPOConfig())


def _seconds(ppo: PPO, rollout: Rollout, rounds: int) -> list[float]:
    """Of each update but the first."""
    seconds = []
    for _ in tqdm(range(rounds + 1), desc=f"updates, {ppo.network.hidden} hidden", disable=None):
        started = time.perf_counter()
        ppo.update(rollout)
        parameters_of(ppo.network)  # waits for the device
        seconds.append(time.perf_counter() - started)
    return seconds[1:]


def _training(decisions: int, device: str) -> dict[str, float]:
    """A whole training: decisions/s, and the seconds of its parts."""
    config = TrainingConfig(decisions=decisions)
    trainer = Trainer(config, LocalRunners(make_env, config), device)
    parts: dict[str, float] = {"sample_s": 0.0, "update_s": 0.0}

    def report(_: int, metrics: Mapping[str, float]) -> None:
        for name in parts:
            parts[name] += metrics[name]

    trainer.run(report)
    return {"decisions_per_s": trainer.decisions / sum(parts.values()), **parts}
