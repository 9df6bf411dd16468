"""Makes the dispatcher's models and policies of the artifacts that the table keeps."""

from policies.learned.policy import LearnedPolicy
from policies.policy import Policy
from policies.quality.model import QualityModel


class ArtifactLoaders:
    """The loaders in use. Importing them compiles what they need: nothing is compiled while serving."""

    def quality(self, data: bytes, revision: str) -> QualityModel:
        """Raises ValueError for bytes that are not a quality model of this version."""
        return QualityModel.from_bytes(data)

    def policy(self, data: bytes) -> Policy:
        """Raises ValueError for bytes that are not a learned policy of this version, or not finite."""
        return LearnedPolicy.from_bytes(data)
