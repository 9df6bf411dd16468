"""Trains a candidate and judges it offline, as a Ray task."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np

from deployments.bounded_task import Bounds, run_task
from deployments.learning.candidate_data import Items, callers_of, items, rows, trace_of
from deployments.learning.live_evidence import finished, normalised_reward, voted, votes_by_decision
from deployments.learning.log_fits import NotEnoughError, fit_pool
from deployments.learning.settings import LearnerSettings
from deployments.records.records import DecisionRecord, EvaluationRecord, FeedbackRecord, OutcomeRecord
from deployments.records.snapshot import Snapshot
from policies.baselines.simple import BestSinglePolicy, LeastLoadedPolicy
from policies.baselines.static_mix import StaticMixPolicy, best_mix
from policies.learned.policy import LearnedPolicy
from policies.observation import Observation
from policies.policy import FormulaPolicy, Policy
from policies.priced import PricedPolicy
from policies.promotion.gates import Evidence, LiveLog, PairedEvidence, Simulated, Verdict, judge, load_gate
from policies.promotion.ope import Log
from policies.simulator.replay import replay
from policies.simulator.scenario import Scenario, ScenarioMix, bursty, pool_capacity_per_s, replayed, square
from policies.simulator.simulator import QueueSimulator
from policies.simulator.spec import ModelSpec, capacity_per_s
from policies.simulator.workload import QualityTable

NICE: Final = 19
_SCENARIOS: Final = (
    Scenario("usual", 0.7, replayed),
    Scenario("burst", 1.0, bursty),
    Scenario("square", 1.0, square),
)


class JobInput(msgspec.Struct):
    """What the job reads. `candidate` b"" asks for training; `incumbent` b"" is the priced rule."""

    snapshot: Snapshot
    evaluations: list[EvaluationRecord]
    transitions: list[tuple[DecisionRecord, OutcomeRecord | None]]
    feedback: list[FeedbackRecord]
    settings: bytes  # LearnerSettings as JSON
    beta: float
    level: float  # chance of finding a gain where there is none that the gates may spend
    candidate: bytes = b""
    incumbent: bytes = b""
    version: int = 0  # number that the candidate has, or gets once it is trained

    @property
    def name(self) -> str:
        """What Ray calls the task."""
        return f"{'judge' if self.candidate else 'train'}-candidate-v{self.version}"


class JobResult(msgspec.Struct):
    """What the job writes. `missing` says why there is no candidate yet.

    `simulator` tells of each model what its simulation rests on.
    """

    checkpoint: bytes = b""
    verdicts: list[Verdict] = []
    items: int = 0
    missing: str = ""
    curve: list[dict[str, float]] = []
    simulator: dict[str, str] = {}


def incumbent_of(data: JobInput) -> Policy:
    """The policy that serves now."""
    return LearnedPolicy.from_bytes(data.incumbent) if data.incumbent else PricedPolicy(data.beta)


def run_job(data: JobInput, progress: Callable[[str], None] = lambda told: None) -> JobResult:
    """Train where no candidate is given, then the gates. Deterministic for one input."""
    settings = LearnerSettings.model_validate_json(data.settings)
    decisions = [record for record, _ in data.transitions]
    try:
        fitted = fit_pool(data.snapshot, data.transitions)
        pool = fitted.specs
        known = items(data.evaluations, [spec.name for spec in pool], callers_of(decisions))
    except NotEnoughError as error:
        return JobResult(missing=str(error))
    study = Study(pool, known, decisions, settings)
    curve: list[dict[str, float]] = []
    checkpoint = data.candidate or study.train(data.beta, curve, progress)
    loaded, candidate = load_gate(checkpoint)
    verdicts = [loaded]
    if candidate is not None:
        incumbent, rule = incumbent_of(data), PricedPolicy(data.beta)
        evidence = Evidence(
            paired=lambda: paired(known, pool, candidate, incumbent, rule, settings.target_s),
            simulated=lambda: study.simulate(candidate, incumbent),
            live=lambda: live(data, settings, candidate, incumbent),
        )
        verdicts += judge(evidence, settings.gates, data.level)
    return JobResult(checkpoint, verdicts, len(known.score), "", curve, dict(fitted.evidence))


class Study:
    """The simulated pool as fitted, its prompts and arrivals, for training and for gate B."""

    def __init__(
        self,
        pool: Sequence[ModelSpec],
        known: Items,
        decisions: Sequence[DecisionRecord],
        settings: LearnerSettings,
    ) -> None:
        self.pool = tuple(pool)
        self.names = tuple(spec.name for spec in self.pool)
        self.settings = settings
        self.table = QualityTable(known.score, known.accuracy, known.accuracy_std, known.prompt)
        self.trace = trace_of(decisions, known, settings.training.seed)
        self.capacity = pool_capacity_per_s(self.pool, self.trace)
        self.caller = np.array(known.caller[0])
        if not self.caller[3]:
            self.caller[3] = settings.target_s
        self.options: dict[str, Any] = {
            "cost_scale_usd": max(float(known.cost_usd.mean(axis=0).max()), 1e-9),
            "deadline_s": 12.0 * settings.target_s,
        }
        order = np.random.default_rng([settings.training.seed, 7]).permutation(len(known.score))
        self.train_rows, self.gate_rows = np.array_split(order, 2)

    def train(self, beta: float, curve: list[dict[str, float]], progress: Callable[[str], None]) -> bytes:
        """A checkpoint trained by PPO on this pool.

        An answer is worth what is predicted of it: a few hundred graded items would be learned by heart.
        """
        from policies.simulator.environment import DispatchVectorEnv
        from policies.training.trainer import LocalRunners, Trainer, TrainingConfig

        wanted = self.settings.training
        config = TrainingConfig(decisions=wanted.decisions, hidden=wanted.hidden, beta=beta, seed=wanted.seed)
        source = ScenarioMix(self.trace, self.capacity, self.train_rows, self.caller, length=1024)
        table = self.table.expected()

        def make_env(seed: int) -> DispatchVectorEnv:
            return DispatchVectorEnv(self.pool, table, source, wanted.environments, seed=seed, **self.options)

        def report(done: int, metrics: Mapping[str, float]) -> None:
            curve.append({"decisions": float(done), **metrics})
            progress(f"{done}/{config.decisions} decisions")

        trainer = Trainer(config, LocalRunners(make_env, config))
        return trainer.run(report).to_bytes()

    def simulate(self, candidate: Policy, incumbent: Policy) -> dict[str, Simulated]:
        """Paired episodes of each scenario on prompts that training did not see."""
        score = dict(zip(self.names, self.table.score[self.train_rows].mean(axis=0).tolist(), strict=True))
        players: dict[str, Policy] = {
            "candidate": candidate,
            "incumbent": incumbent,
            "priced": PricedPolicy(),
            "formula": FormulaPolicy(),
            "least loaded": LeastLoadedPolicy(),
            "best single": BestSinglePolicy(score),
            "static mix": StaticMixPolicy(self._mix(score)),
        }
        return {scenario.name: self._played(scenario, players) for scenario in _SCENARIOS}

    def _played(self, scenario: Scenario, players: Mapping[str, Policy]) -> Simulated:
        wanted = self.settings.training
        simulator = QueueSimulator(self.pool, self.table, 1, requests_kept=8192, **self.options)
        found: dict[str, list[float]] = {name: [] for name in players}
        short = self.trace.part(0.0, min(1.0, (wanted.episode_requests + 1) / len(self.trace)))
        for number in range(wanted.episodes):
            rng = np.random.default_rng([wanted.seed, 11, number])
            episode = scenario.episode(short, self.capacity, self.gate_rows, self.caller, 0.6, rng)
            for name, player in players.items():
                found[name].append(float(replay(simulator, player, episode, number)["reward"].mean()))
        arrays = {name: np.array(values) / float(self.caller[:3].sum()) for name, values in found.items()}
        return Simulated(arrays.pop("candidate"), arrays)

    def _mix(self, score: Mapping[str, float]) -> dict[str, float]:
        """The best shares that the pool can bear at half its capacity."""
        prompt, output = float(self.trace.prompt_tokens.mean()), float(self.trace.output_tokens.mean())
        capacity = np.array([capacity_per_s(spec, prompt, output) for spec in self.pool])
        value, cost = np.array(list(score.values())), np.zeros(len(score))
        mix = best_mix(value, cost, capacity_per_s=capacity, demand_per_s=0.5 * self.capacity)
        return dict(zip(self.names, mix.shares.tolist(), strict=True))


def paired(
    known: Items,
    pool: Sequence[ModelSpec],
    candidate: Policy,
    incumbent: Policy,
    rule: Policy,
    target_s: float,
) -> PairedEvidence:
    """Gate A's evidence: what each would choose on an idle pool, what each answer was worth."""
    table = rows(known, pool)
    mask = np.ones(len(known.models), dtype=bool)
    chosen = [
        Observation(known.models, table[q], known.prompt[q], known.caller[q], mask)
        for q in range(len(known.score))
    ]
    scale = float(known.cost_usd.max())
    worth = np.array(
        [
            [
                normalised_reward(s, e, c, known.caller[q], scale, target_s)
                for s, e, c in zip(known.score[q], known.e2e_s[q], known.cost_usd[q], strict=True)
            ]
            for q in range(len(known.score))
        ]
    )
    return PairedEvidence(
        candidate=np.array([candidate.probabilities(observation) for observation in chosen]),
        incumbent=np.array([incumbent.probabilities(observation) for observation in chosen]),
        rule=np.array([rule.probabilities(observation) for observation in chosen]),
        utility=worth,
        slices=known.slices,
    )


def live(data: JobInput, settings: LearnerSettings, candidate: Policy, incumbent: Policy) -> LiveLog:
    """Gate C's evidence: score and cost in the decision log over the set of models that most decisions had.

    Not latency: there a request bears what others chose, which only slices of time can compare.
    """
    votes = votes_by_decision(data.feedback, settings.feedback_metrics)
    log = finished(data.transitions, votes, settings.target_s, counts_latency=False)
    sets = [one.observation.models for one in log]
    usual = max(set(sets), key=sets.count, default=())
    log = [one for one in log if one.observation.models == usual]
    if not log:
        empty = np.zeros((0, 1))
        return LiveLog(Log(np.zeros(0, np.int64), np.zeros(0), empty, empty), empty, empty)
    return LiveLog(
        Log(
            actions=np.array([one.index for one in log], dtype=np.int64),
            rewards=np.array([one.reward for one in log]),
            logging=np.array([one.record.probabilities for one in log], dtype=np.float64),
            predicted=np.array([one.expected for one in log]),
            voted=voted(log),
        ),
        candidate=np.array([candidate.probabilities(one.observation, one.record.epsilon) for one in log]),
        incumbent=np.array([incumbent.probabilities(one.observation, one.record.epsilon) for one in log]),
    )


async def job_task(data: JobInput, settings: LearnerSettings) -> JobResult:
    """`run_job` as a Ray task, at nice 19 and with bounded memory. Raises TaskError, TimeoutError."""
    wanted = settings.training
    bounds = Bounds(wanted.num_cpus, wanted.threads, NICE, wanted.timeout_s, wanted.memory_bytes)
    encoded = await asyncio.to_thread(msgspec.msgpack.encode, data)
    return msgspec.msgpack.decode(await run_task(data.name, _run_encoded, encoded, bounds), type=JobResult)


def _run_encoded(data: bytes) -> bytes:
    return msgspec.msgpack.encode(run_job(msgspec.msgpack.decode(data, type=JobInput)))
