from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save

from policies.learned.checkpoint import CheckpointError, Manifest, dump, new_manifest, parse
from policies.learned.features import FEATURES
from policies.observation import OBSERVATION_VERSION

TENSORS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(4, dtype=np.float32)}


def _manifest() -> Manifest:
    return new_manifest(TENSORS, beta=20.0, hidden=8, data_range={"decisions": 5.0})


def test_what_was_written_is_read() -> None:
    tensors, manifest = parse(dump(TENSORS, _manifest()))
    assert manifest == _manifest()
    assert manifest.observation_version == OBSERVATION_VERSION
    assert manifest.features == FEATURES
    assert manifest.data_range == {"decisions": 5.0}
    for name, value in TENSORS.items():
        assert np.array_equal(tensors[name], value)


def test_the_revision_is_that_of_the_content() -> None:
    other = {**TENSORS, "b": np.zeros(4, dtype=np.float32)}
    assert new_manifest(other, 20.0, 8, {}).revision != _manifest().revision
    assert new_manifest(TENSORS, 20.0, 8, {"decisions": 9.0}).revision == _manifest().revision


def test_changed_tensors_are_refused() -> None:
    other = {**TENSORS, "b": np.zeros(4, dtype=np.float32)}
    with pytest.raises(CheckpointError, match="hashes"):
        parse(dump(other, _manifest()))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused_both_ways(value: float) -> None:
    bad = {**TENSORS, "b": np.array([value], dtype=np.float32)}
    manifest = new_manifest(bad, 20.0, 8, {})
    with pytest.raises(CheckpointError, match="'b' of the checkpoint is not finite"):
        dump(bad, manifest)


def test_another_version_or_format_is_refused() -> None:
    with pytest.raises(CheckpointError, match="train again"):
        parse(dump(TENSORS, replace(_manifest(), observation_version=OBSERVATION_VERSION + 1)))
    with pytest.raises(CheckpointError, match="train again"):
        parse(dump(TENSORS, replace(_manifest(), features=FEATURES[:-1])))
    with pytest.raises(CheckpointError, match="Format 'other'"):
        parse(dump(TENSORS, replace(_manifest(), format="other")))


@pytest.mark.parametrize(
    "data", [b"", b"\x80\x04N.", b"0" * 64, save(TENSORS), dump(TENSORS, _manifest())[:-3]]
)
def test_damaged_files_are_refused(data: bytes) -> None:
    with pytest.raises(CheckpointError):
        parse(data)
