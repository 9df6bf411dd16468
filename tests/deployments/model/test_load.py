import os
import subprocess
import sys
import time

import pytest

from deployments.model import load as load_module
from deployments.model.load import ProcessLoad


def test_a_busy_child_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_module, "SAMPLE_S", 0.0)
    load = ProcessLoad()
    load.sample()
    busy = "import time\nend = time.monotonic() + 20\nwhile time.monotonic() < end: pass"
    with subprocess.Popen([sys.executable, "-c", busy]) as child:
        time.sleep(1.0)
        cores, memory_bytes = load.sample()
        child.kill()
    assert cores > 0.05
    assert memory_bytes > 10e6


def test_a_child_that_ends_leaves_no_negative_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_module, "SAMPLE_S", 0.0)
    load = ProcessLoad()
    with subprocess.Popen(
        [sys.executable, "-c", "sum(range(10**7)); input()"], stdin=subprocess.PIPE
    ) as child:
        time.sleep(0.5)
        load.sample()
        child.kill()
    assert load.sample()[0] >= 0.0


def test_samples_are_a_second_apart() -> None:
    load = ProcessLoad(os.getpid())
    assert load.sample() is load.sample()
