"""Replicas follow the load, though requests reach them by HTTP and not through Serve."""

from typing import Any

import pytest

pytestmark = pytest.mark.integration

SCALING = {
    "min_replicas": 1,
    "max_replicas": 3,
    "target_ongoing_requests": 2,
    "upscale_delay_s": 0.5,
    "downscale_delay_s": 2.0,
    "look_back_period_s": 3.0,
}


def test_load_adds_replicas_and_calm_takes_them_away(restored: Any, load: Any) -> None:
    changed = restored.with_model("elastic")
    changed["applications"][-1]["args"] |= {"autoscaling": SCALING, "drain_s": 2.0}
    restored.deploy(changed)
    assert restored.usable("elastic") == 1
    with load(restored, ["elastic"], callers=8, max_tokens=200, ignore_eos=True) as running:
        restored.wait_for(lambda: restored.usable("elastic") >= 2, 60.0)
    restored.wait_for(lambda: restored.usable("elastic") == 1, 90.0)
    assert running.answers
    assert [answer for answer in running.answers if not answer.is_whole] == []
