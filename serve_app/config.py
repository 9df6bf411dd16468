"""Configuration of the ingress: what is fixed while it runs, and what `user_config` changes live."""

from pydantic import Field

from deployments.dispatch_settings import DispatchSettings
from deployments.strict import StrictModel


class Caps(StrictModel):
    """Bounds on one request; every number over its cap is answered 400 with `param`."""

    n: int = Field(default=8, ge=1)
    top_logprobs: int = Field(default=20, ge=0)
    logit_bias: int = Field(default=300, ge=0)  # entries
    stop: int = Field(default=4, ge=0)  # sequences
    stop_chars: int = Field(default=64, ge=1)
    bad_words: int = Field(default=128, ge=0)
    messages: int = Field(default=4096, ge=1)
    tools: int = Field(default=128, ge=0)
    prompts: int = Field(default=1, ge=1)  # prompts of one completion request
    embedding_inputs: int = Field(default=256, ge=1)
    schema_bytes: int = Field(default=16_384, ge=0)  # of JSON schemas, tools' included
    schema_depth: int = Field(default=32, ge=1)
    media_parts: int = Field(default=16, ge=0)
    media_domains: tuple[str, ...] = ()  # hosts a model may fetch media from, besides data: URLs
    text_chars: int = Field(default=2_000_000, ge=1)


class Deadlines(StrictModel):
    """Time limits of one request, in seconds."""

    request_s: float = Field(default=300.0, gt=0)  # whole request; a caller may ask for less
    first_byte_s: float = Field(default=60.0, gt=0)  # per try of a streamed request, to its first byte
    try_s: float = Field(default=120.0, gt=0)  # per try of a plain request, to its answer
    idle_s: float = Field(default=30.0, gt=0)  # a stream that has begun and says nothing
    silent_s: float = Field(
        default=3.0, gt=0
    )  # a replica whose live row is older is given up, tries in flight too
    reader_s: float = Field(default=30.0, gt=0)  # a client that does not read its stream
    connect_s: float = Field(default=2.0, gt=0)


class Retries(StrictModel):
    """How much repeating the pool is asked to bear."""

    per_request: int = Field(default=3, ge=0)
    share: float = Field(default=0.1, ge=0, le=1)  # of the requests of the last 10 s
    floor: int = Field(default=10, ge=0)  # retries in 10 s that are always allowed


class KeyLimits(StrictModel):
    """Limits of one API key, counted by each ingress replica for itself; None is no limit."""

    requests_per_s: float | None = Field(default=None, gt=0)
    concurrency: int | None = Field(default=None, ge=0)
    tokens_per_min: int | None = Field(default=None, ge=0)
    usd_per_day: float | None = Field(default=None, ge=0)
    models: tuple[str, ...] | None = None  # allowed models; None is all


class IngressSettings(StrictModel):
    """`user_config` of deployment Ingress: everything here changes live and restarts nothing."""

    dispatch: DispatchSettings = DispatchSettings()
    caps: Caps = Caps()
    deadlines: Deadlines = Deadlines()
    retries: Retries = Retries()
    cors_origins: tuple[str, ...] = ()  # browser origins that may call the endpoint; none by default
    feedback_tokens: bool = True  # send x-fastserve-feedback-token: a vote without the key


class IngressConfig(StrictModel):
    """`args` of the app `fastserve`; a change restarts its replicas."""

    num_cpus: float = Field(default=0.5, ge=0)  # of one ingress replica
    body_bytes: int = Field(default=2 * 1024 * 1024, ge=1024)
    body_s: float = Field(default=10.0, gt=0)
    max_in_flight: int = Field(default=2048, ge=1)  # requests of one ingress replica; more are answered 429
    drain_s: float = Field(default=60.0, ge=0)  # how long a leaving replica lets its streams end
    evaluator: bool = False
    learner: bool = False
