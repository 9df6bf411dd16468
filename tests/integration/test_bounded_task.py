"""Training and fits as Ray tasks: what they make, how they end, and that Ray shows them by their names."""

import asyncio
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray

from deployments.bounded_task import Bounds, TaskError, run_task
from deployments.learning.candidate_job import job_task, run_job
from deployments.learning.quality_fit import TASK, fit_quality, fit_task
from deployments.learning.settings import FitSettings
from policies.prompt.features import extract
from policies.quality.model import QualityModel
from tests.deployments.graded_pool import SETTINGS, evaluations, job
from tests.integration import task_work
from tests.integration.running import Cluster

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

BOUNDS = Bounds(num_cpus=0.02, threads=2, nice=7, timeout_s=300.0)


def shown(name: str) -> list[Any]:
    """Tasks of that name, as Ray's dashboard has them from its state API."""
    from ray.util.state import list_tasks

    return list_tasks(filters=[("name", "=", name)], detail=True, limit=1000)


def has_ended(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


async def begun(path: Path) -> int:
    """The process id of a task that sleeps."""
    while not path.exists():  # the test's own time limit ends what never comes true
        await asyncio.sleep(0.05)
    return int(path.read_text())


@ray.remote(num_cpus=0)
class Asker:
    """Asks for a task, as the Learner does, and waits for it."""

    async def ask(self, path: str) -> bytes:
        return await run_task("test-of-orphan", task_work.sleep, path.encode(), BOUNDS)


async def test_a_task_gets_its_priority_and_its_threads_and_is_shown_with_its_cpus(cluster: Cluster) -> None:
    assert await run_task("test-of-echo", task_work.echo, b"data", BOUNDS) == b"data 7 2"
    cluster.wait_for(lambda: [task.state for task in shown("test-of-echo")] == ["FINISHED"])
    assert [task.required_resources for task in shown("test-of-echo")] == [{"CPU": 0.02}]


async def test_the_next_task_has_bounds_of_its_own(cluster: Cluster) -> None:
    for nice in (9, 3):
        bounds = Bounds(num_cpus=0.02, threads=2, nice=nice, timeout_s=300.0)
        assert await run_task("test-of-bounds", task_work.echo, b"x", bounds) == f"x {nice} 2".encode()


async def test_a_failure_is_told_by_its_own_exception(cluster: Cluster) -> None:
    with pytest.raises(TaskError, match="'test-of-failure' failed: ValueError: it does not fit"):
        await run_task("test-of-failure", task_work.fail, b"it", BOUNDS)


async def test_the_death_of_its_process_is_a_failure_and_is_not_repeated(cluster: Cluster) -> None:
    with pytest.raises(TaskError, match=r"'test-of-death' failed: .*died"):
        await run_task("test-of-death", task_work.die, b"", BOUNDS)
    cluster.wait_for(lambda: [task.state for task in shown("test-of-death")] == ["FAILED"])


async def test_more_memory_than_its_bound_is_a_failure(cluster: Cluster) -> None:
    bounds = Bounds(num_cpus=0.02, threads=1, nice=0, timeout_s=300.0, memory_bytes=2**29)
    assert await run_task("test-of-memory", task_work.allocate, str(2**27).encode(), bounds) == b""
    with pytest.raises(TaskError, match="MemoryError"):
        await run_task("test-of-memory", task_work.allocate, str(2**30).encode(), bounds)


async def test_at_its_time_limit_it_ends_with_its_process(cluster: Cluster, tmp_path: Path) -> None:
    path = tmp_path / "pid"
    bounds = Bounds(num_cpus=0.02, threads=1, nice=0, timeout_s=20.0)
    with pytest.raises(TimeoutError, match="'test-of-limit' did not end within 20 s"):
        await run_task("test-of-limit", task_work.sleep, str(path).encode(), bounds)
    cluster.wait_for(lambda: not task_work.running("test-of-limit"))
    assert not path.exists() or has_ended(int(path.read_text()))


async def test_it_ends_where_nobody_waits_for_it_any_more(cluster: Cluster, tmp_path: Path) -> None:
    path = tmp_path / "pid"
    asked = asyncio.create_task(run_task("test-of-cancel", task_work.sleep, str(path).encode(), BOUNDS))
    pid = await begun(path)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    cluster.wait_for(lambda: has_ended(pid))


async def test_it_ends_with_the_process_that_asked_for_it(cluster: Cluster, tmp_path: Path) -> None:
    asker = Asker.remote()
    asker.ask.remote(str(tmp_path / "pid"))
    pid = await begun(tmp_path / "pid")
    assert task_work.running("test-of-orphan") == [pid]
    ray.kill(asker)
    cluster.wait_for(lambda: has_ended(pid))


async def test_a_fit_as_a_task_gives_what_the_function_gives(cluster: Cluster) -> None:
    before = len(shown(TASK))
    apart, here = await fit_task(evaluations(), FitSettings(nice=0)), fit_quality(evaluations())

    def mean(model: QualityModel, name: str) -> float:
        prompts = [extract(f"label item {item} about topic 3") for item in range(20)]
        return sum(model.predict(prompt, [name])[0][0] for prompt in prompts) / len(prompts)

    for name in ("large", "small"):
        assert mean(apart, name) == pytest.approx(mean(here, name), abs=0.02)
    cluster.wait_for(lambda: len(shown(TASK)) > before)


async def test_a_fit_that_fails_says_why(cluster: Cluster) -> None:
    with pytest.raises(TaskError, match=rf"'{TASK}' failed: ValueError: .*no scored answers"):
        await fit_task([], FitSettings(nice=0))


async def test_a_training_run_as_a_task_gives_what_the_function_gives(cluster: Cluster) -> None:
    trained = await job_task(job(evaluations(), version=7), SETTINGS)
    assert trained.checkpoint == run_job(job(evaluations(), version=7)).checkpoint
    judging = job(evaluations(), candidate=trained.checkpoint, version=7)
    gates = [verdict.gate for verdict in (await job_task(judging, SETTINGS)).verdicts]
    assert gates == [verdict.gate for verdict in run_job(judging).verdicts]
    cluster.wait_for(lambda: [task.state for task in shown("train-candidate-v7")] == ["FINISHED"])
    cluster.wait_for(lambda: [task.state for task in shown("judge-candidate-v7")] == ["FINISHED"])
    assert [task.required_resources for task in shown("train-candidate-v7")] == [{"CPU": 0.01}]
