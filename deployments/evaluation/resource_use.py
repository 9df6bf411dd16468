"""What the models use of the machines while they are watched, from the replicas' live rows."""

from dataclasses import dataclass

from deployments.records.snapshot import Snapshot


@dataclass(slots=True)
class _Sums:
    samples: int = 0
    cpu: float = 0.0
    gpu: float = 0.0
    peak_memory_bytes: int = 0


class ResourceUse:
    """Running means over snapshots in which a model works, and the peak of its memory."""

    def __init__(self) -> None:
        self._sums: dict[str, _Sums] = {}

    def see(self, snapshot: Snapshot) -> None:
        """Take one snapshot."""
        for model, row in snapshot.models.items():
            sums = self._sums.setdefault(model, _Sums())
            memory_bytes = sum(replica.memory_bytes for replica in row.replicas)
            sums.peak_memory_bytes = max(sums.peak_memory_bytes, memory_bytes)
            if any(replica.running for replica in row.replicas):
                sums.samples += 1
                sums.cpu += sum(replica.cpu_share for replica in row.replicas)
                sums.gpu += sum(replica.gpu_share for replica in row.replicas)

    def report(self) -> dict[str, dict[str, float]]:
        """By model: cores and GPUs in use while it works, and the most memory, over all its replicas."""
        return {
            model: {
                "cpu_cores": sums.cpu / max(sums.samples, 1),
                "gpus": sums.gpu / max(sums.samples, 1),
                "peak_memory_bytes": float(sums.peak_memory_bytes),
            }
            for model, sums in self._sums.items()
        }
