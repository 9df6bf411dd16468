"""Train a dispatch policy on a simulated pool: PPO on recorded or synthetic arrivals, to a checkpoint.

The live learner does this by itself from the performance table; this command is for training ahead.
"""

import argparse
import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from serve_app.console.connection import CommandError

if TYPE_CHECKING:
    from policies.simulator.arrivals import Trace
    from policies.simulator.environment import DispatchVectorEnv
    from policies.simulator.scenario import ScenarioMix
    from policies.simulator.spec import ModelSpec
    from policies.simulator.workload import QualityTable
    from policies.training.trainer import Runners, Trainer, TrainingConfig

CALLER = (1.0, 1.0, 0.2, 10.0)  # accuracy, latency, cost; target in seconds
_SYNTHETIC_ROWS = 6000
_SAVE_EVERY = 20  # updates


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--pool", type=Path, required=True, help="JSON: list of models with the simulator's parameters"
    )
    parser.add_argument(
        "--output", type=Path, required=True, help="folder for policy.safetensors, metrics, state"
    )
    parser.add_argument(
        "--arrivals", type=Path, help="CSV: arrival_s, prompt_tokens, output_tokens (default: synthetic)"
    )
    parser.add_argument(
        "--quality", type=Path, help="JSONL: prompt, scores by model of the pool (default: synthetic)"
    )
    parser.add_argument(
        "--decisions", type=int, default=250_000, help="simulated decisions (default 250,000)"
    )
    parser.add_argument(
        "--environments", type=int, default=64, help="simulated pools per worker (default 64)"
    )
    parser.add_argument(
        "--workers", type=int, default=0, help="Ray rollout workers; 0 steps in this process (default)"
    )
    parser.add_argument("--address", help="Ray cluster of the workers (default: one of this machine's own)")
    parser.add_argument("--hidden", type=int, default=32, help="hidden units (default 32)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu", help="torch device of the updates (default cpu)")
    parser.add_argument("--resume", action="store_true", help="go on from the folder's last state")


@dataclass(frozen=True, slots=True)
class MakeEnv:
    """Picklable: seed -> the training environment."""

    models: "tuple[ModelSpec, ...]"
    table: "QualityTable"
    mix: "ScenarioMix"
    environments: int
    cost_scale_usd: float

    def __call__(self, seed: int) -> "DispatchVectorEnv":
        """A fresh environment."""
        from policies.simulator.environment import DispatchVectorEnv

        return DispatchVectorEnv(
            self.models,
            self.table,
            self.mix,
            self.environments,
            seed=seed,
            deadline_s=3.0 * CALLER[3],
            cost_scale_usd=self.cost_scale_usd,
        )


def run(args: argparse.Namespace) -> int:
    """Train, write the checkpoint, say where it is."""
    from policies.training.trainer import Trainer, TrainingConfig

    try:
        make_env = environment(args)
    except (OSError, ValueError) as error:
        raise CommandError(str(error)) from error
    config = TrainingConfig(decisions=args.decisions, hidden=args.hidden, seed=args.seed)
    args.output.mkdir(parents=True, exist_ok=True)
    with _runners(args, make_env, config) as runners:
        trainer = Trainer(config, runners, args.device)
        state = args.output / "state.safetensors"
        if args.resume:
            try:
                trainer.resume(state)
            except (OSError, ValueError) as error:
                raise CommandError(f"Cannot resume from '{state}': {error}") from error
        _train(trainer, args.output)
    checkpoint = args.output / "policy.safetensors"
    policy = trainer.policy(_data_range(make_env))
    checkpoint.write_bytes(policy.to_bytes())
    print(f"policy {policy.revision}: {checkpoint}")
    return 0


def environment(args: argparse.Namespace) -> MakeEnv:
    """What to train on. Raises ValueError or OSError for unusable files."""
    from policies.simulator.arrivals import read_trace, synthetic_trace
    from policies.simulator.scenario import ScenarioMix, pool_capacity_per_s
    from policies.simulator.scored_prompts import scored_prompts, synthetic_prompts

    models = read_pool(args.pool)
    trace: Trace = read_trace(args.arrivals) if args.arrivals else synthetic_trace(20_000, args.seed)
    if args.quality:
        prompts = scored_prompts(args.quality, args.seed)
    else:
        prompts = synthetic_prompts(len(models), _SYNTHETIC_ROWS, args.seed)
    if args.quality and set(prompts.names) != {model.name for model in models}:
        raise ValueError(
            f"Pool and quality file name different models; the file's: {', '.join(prompts.names)}."
        )
    if args.quality:
        models = tuple(sorted(models, key=lambda model: prompts.names.index(model.name)))
    usd = [
        m.prompt_usd_per_mtok * trace.prompt_tokens.mean()
        + m.completion_usd_per_mtok * trace.output_tokens.mean()
        for m in models
    ]
    mix = ScenarioMix(
        trace,
        pool_capacity_per_s(models, trace),
        np.arange(len(prompts.table.score)),
        np.array(CALLER),
        length=min(2048, len(trace) - 1),
    )
    return MakeEnv(models, prompts.table.expected(), mix, args.environments, max(max(usd) * 1e-6, 1e-9))


def read_pool(path: Path) -> "tuple[ModelSpec, ...]":
    """The models of a pool file. Raises ValueError for what is not one."""
    from policies.simulator.spec import ModelSpec

    content: Any = json.loads(path.read_text(encoding="utf-8"))
    try:
        models = tuple(ModelSpec(**entry) for entry in content)
    except TypeError as error:
        raise ValueError(
            f"'{path.name}': {error}; each entry needs the fields of policies.simulator.spec.ModelSpec."
        ) from error
    if len(models) < 2:
        raise ValueError(f"'{path.name}' names {len(models)} models, a policy needs 2.")
    return models


def _data_range(make_env: MakeEnv) -> dict[str, float]:
    trace = make_env.mix.trace
    return {
        "requests": float(len(trace)),
        "span_s": float(trace.arrival_s[-1]),
        "prompts": float(len(make_env.table.score)),
    }


@contextmanager
def _runners(args: argparse.Namespace, make_env: MakeEnv, config: "TrainingConfig") -> "Iterator[Runners]":
    from policies.training.trainer import LocalRunners

    if args.workers <= 0:
        yield LocalRunners(make_env, config)
        return
    import ray

    from deployments.learning.rollout_group import RolloutGroup

    ray.init(address=args.address, include_dashboard=False, log_to_driver=False)
    try:
        group = RolloutGroup(make_env, config, args.workers)
        yield group
        group.close()
    finally:
        ray.shutdown()


def _train(trainer: "Trainer", output: Path) -> None:
    """Run with a progress bar; metrics go to metrics.jsonl and, where it is installed, to TensorBoard."""
    from tqdm import tqdm

    with ExitStack() as stack:
        log = stack.enter_context((output / "metrics.jsonl").open("a", encoding="utf-8"))
        board = _tensorboard(output)
        bar = stack.enter_context(
            tqdm(total=trainer.config.decisions, initial=trainer.decisions, unit="decision")
        )

        def report(decisions: int, metrics: Mapping[str, float]) -> None:
            bar.update(decisions - bar.n)
            bar.set_postfix(reward=f"{metrics['reward']:.3f}", kl=f"{metrics.get('approx_kl', 0.0):.4f}")
            log.write(json.dumps({"decisions": decisions, **metrics}) + "\n")
            log.flush()
            for name, value in metrics.items() if board is not None else ():
                board.add_scalar(name, value, decisions)
            if trainer.ppo.updates % _SAVE_EVERY == 0:
                trainer.save(output / "state.safetensors")

        trainer.run(report)
        trainer.save(output / "state.safetensors")
        if board is not None:
            board.close()


def _tensorboard(output: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        print("TensorBoard is not installed (extra `train`): metrics go to metrics.jsonl only.")
        return None
    return SummaryWriter(str(output / "tensorboard"))
