"""Train a dispatch policy on a simulated pool: PPO on recorded or synthetic arrivals, to a checkpoint.

The live learner does this by itself from the performance table; this command is for training ahead.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from serve_app.console import options
from serve_app.console.errors import CommandError

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


@dataclass(frozen=True, slots=True)
class Options:
    """What to train on, how long, and where it runs."""

    pool: Path
    output: Path
    arrivals: Path | None
    quality: Path | None
    decisions: int
    environments: int
    workers: int
    address: str | None
    hidden: int
    seed: int
    device: str
    resume: bool


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


_FILE: Final = click.Path(path_type=Path)


@click.command(help=__doc__)
@click.option(
    "--pool", type=_FILE, required=True, help="JSON: list of models with the simulator's parameters"
)
@click.option("--output", type=_FILE, required=True, help="folder for policy.safetensors, metrics, state")
@click.option(
    "--arrivals", type=_FILE, help="CSV: arrival_s, prompt_tokens, output_tokens (default: synthetic)"
)
@click.option("--quality", type=_FILE, help="JSONL: prompt, scores by model of the pool (default: synthetic)")
@click.option("--decisions", type=int, default=250_000, show_default=True, help="simulated decisions")
@click.option("--environments", type=int, default=64, show_default=True, help="simulated pools per worker")
@click.option(
    "--workers", type=int, default=0, show_default=True, help="Ray rollout workers; 0: steps in this process"
)
@click.option("--address", help="Ray cluster of the workers (default: one of this machine's own)")
@click.option("--hidden", type=int, default=32, show_default=True, help="hidden units")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--device", default="cpu", show_default=True, help="torch device of the updates")
@click.option("--resume", is_flag=True, help="continue from the folder's last state")
@options.as_json
def command(as_json: bool, **given: Any) -> None:
    """Train, write the checkpoint, say where it is."""
    wanted = Options(**given)
    from policies.training.trainer import Trainer, TrainingConfig

    try:
        make_env = environment(wanted)
    except (OSError, ValueError) as error:
        raise CommandError(str(error)) from error
    config = TrainingConfig(decisions=wanted.decisions, hidden=wanted.hidden, seed=wanted.seed)
    wanted.output.mkdir(parents=True, exist_ok=True)
    with _runners(wanted, make_env, config) as runners:
        trainer = Trainer(config, runners, wanted.device)
        state = wanted.output / "state.safetensors"
        if wanted.resume:
            try:
                trainer.resume(state)
            except (OSError, ValueError) as error:
                raise CommandError(f"Cannot resume from '{state}': {error}") from error
        _train(trainer, wanted.output)
    checkpoint = wanted.output / "policy.safetensors"
    policy = trainer.policy(_data_range(make_env))
    checkpoint.write_bytes(policy.to_bytes())
    if as_json:
        print(json.dumps({"revision": policy.revision, "checkpoint": str(checkpoint)}))
    else:
        print(f"policy {policy.revision}: {checkpoint}")


def environment(wanted: Options) -> MakeEnv:
    """What to train on. Raises ValueError or OSError for unusable files."""
    import numpy as np

    from policies.simulator.arrivals import read_trace, synthetic_trace
    from policies.simulator.scenario import ScenarioMix, pool_capacity_per_s
    from policies.simulator.scored_prompts import scored_prompts, synthetic_prompts

    models = read_pool(wanted.pool)
    trace: Trace = read_trace(wanted.arrivals) if wanted.arrivals else synthetic_trace(20_000, wanted.seed)
    if wanted.quality:
        prompts = scored_prompts(wanted.quality, wanted.seed)
    else:
        prompts = synthetic_prompts(len(models), _SYNTHETIC_ROWS, wanted.seed)
    if wanted.quality and set(prompts.names) != {model.name for model in models}:
        raise ValueError(
            f"Pool and quality file name different models; the file's: {', '.join(prompts.names)}."
        )
    if wanted.quality:
        models = tuple(sorted(models, key=lambda model: prompts.names.index(model.name)))
    lengths = float(trace.prompt_tokens.mean()), float(trace.output_tokens.mean())
    usd = [model.cost_usd(*lengths) for model in models]
    mix = ScenarioMix(
        trace,
        pool_capacity_per_s(models, trace),
        np.arange(len(prompts.table.score)),
        np.array(CALLER),
        length=min(2048, len(trace) - 1),
    )
    return MakeEnv(models, prompts.table.expected(), mix, wanted.environments, max(*usd, 1e-9))


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
def _runners(wanted: Options, make_env: MakeEnv, config: "TrainingConfig") -> "Iterator[Runners]":
    from policies.training.trainer import LocalRunners

    if wanted.workers <= 0:
        yield LocalRunners(make_env, config)
        return
    import ray

    from deployments.learning.rollout_group import RolloutGroup

    ray.init(address=wanted.address, include_dashboard=False, log_to_driver=False)
    try:
        group = RolloutGroup(make_env, config, wanted.workers)
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
