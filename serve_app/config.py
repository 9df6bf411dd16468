"""Configuration of the ingress: what is fixed while it runs, and what `user_config` changes live."""

from pydantic import Field

from deployments.dispatch.settings import DispatchSettings
from deployments.strict import StrictModel


class Caps(StrictModel):
    """Bounds on one request; every number over its cap is answered 400 with `param`."""

    n: int = Field(default=8, ge=1)  # choices of one request
    top_logprobs: int = Field(default=20, ge=0)  # alternatives per token
    logit_bias: int = Field(default=300, ge=0)  # entries
    stop: int = Field(default=4, ge=0)  # stop sequences
    stop_chars: int = Field(default=64, ge=1)  # characters of one stop sequence
    bad_words: int = Field(default=128, ge=0)  # entries
    messages: int = Field(default=4096, ge=1)  # messages of one chat
    tools: int = Field(default=128, ge=0)  # tools of one request
    prompts: int = Field(default=1, ge=1)  # prompts of one completion request
    embedding_inputs: int = Field(default=256, ge=1)  # texts of one embedding request
    schema_bytes: int = Field(default=16_384, ge=0)  # bytes of JSON schemas, tools' included
    schema_depth: int = Field(default=32, ge=1)  # levels of nesting of a JSON schema
    media_parts: int = Field(default=16, ge=0)  # pictures, sounds and films of one request
    media_domains: tuple[str, ...] = ()  # hosts a model may fetch media from, besides data: URLs
    text_chars: int = Field(default=2_000_000, ge=1)  # characters of all texts of one request


class Deadlines(StrictModel):
    """Time limits of one request, in seconds."""

    request_s: float = Field(default=300.0, gt=0)  # seconds of the whole request; a caller may ask for less
    first_byte_s: float = Field(default=60.0, gt=0)  # seconds to the first byte of a stream, each try
    try_s: float = Field(default=120.0, gt=0)  # seconds to the answer of a plain request, each try
    idle_s: float = Field(default=30.0, gt=0)  # seconds that a stream which has begun may say nothing
    # seconds without news of a replica, after which it is given up, tries in flight too
    silent_s: float = Field(default=3.0, gt=0)
    reader_s: float = Field(default=30.0, gt=0)  # seconds that a client may leave its stream unread
    connect_s: float = Field(default=2.0, gt=0)  # seconds to connect to a replica


class Retries(StrictModel):
    """How much repeating the pool is asked to bear."""

    per_request: int = Field(default=3, ge=0)  # more tries of one request, at most
    share: float = Field(default=0.1, ge=0, le=1)  # retries over requests of the last 10 s, at most
    floor: int = Field(default=10, ge=0)  # retries in 10 s that are always allowed


class KeyLimits(StrictModel):
    """Limits of one API key, counted by each ingress replica for itself; None is no limit."""

    requests_per_s: float | None = Field(default=None, gt=0)  # requests a second
    concurrency: int | None = Field(default=None, ge=0)  # requests at once
    tokens_per_min: int | None = Field(default=None, ge=0)  # prompt and output tokens a minute
    usd_per_day: float | None = Field(default=None, ge=0)  # US dollars a day (UTC)
    models: tuple[str, ...] | None = None  # allowed models; None is all


class IngressSettings(StrictModel):
    """`user_config` of deployment Ingress: all of it changes live and restarts nothing."""

    dispatch: DispatchSettings = DispatchSettings()  # how `auto` chooses
    caps: Caps = Caps()  # bounds on one request
    deadlines: Deadlines = Deadlines()  # time limits of one request
    retries: Retries = Retries()  # how much is repeated
    cors_origins: tuple[str, ...] = ()  # browser origins that may call the endpoint; none by default
    feedback_tokens: bool = True  # send x-fastserve-feedback-token: a vote without the key


class IngressConfig(StrictModel):
    """`args` of the app `fastserve`: a change restarts the replicas of all its deployments."""

    num_cpus: float = Field(default=0.5, ge=0)  # CPUs of one ingress replica
    # largest request body; a larger one is answered 413
    body_bytes: int = Field(default=2 * 1024 * 1024, ge=1024)
    body_s: float = Field(default=10.0, gt=0)  # seconds that a request body may take to arrive
    max_in_flight: int = Field(default=2048, ge=1)  # requests of one ingress replica; more are answered 429
    drain_s: float = Field(default=60.0, ge=0)  # seconds that a leaving replica lets its streams end
    evaluator: bool = False  # run the Evaluator in this app
    learner: bool = False  # run the Learner in this app
