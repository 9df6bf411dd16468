"""Broken config files, one for each class of mistake: how cluster.yaml is broken, and what must be said."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from deployments.model.autoscaling import ONGOING_REQUESTS, PLANNED_REPLICAS

ROOT = Path(__file__).resolve().parents[3]
GOOD = (ROOT / "cluster.yaml").read_text()

Break = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Broken:
    """A class of mistake: the file, a part of the place that must be named, a part of the advice."""

    name: str
    break_it: Break
    place: str
    advice: str

    def text(self) -> str:
        """The broken file."""
        text = self.break_it(GOOD)
        assert text != GOOD, self.name
        return text


def put(old: str, new: str) -> Break:
    """The first `old` becomes `new`."""
    return lambda text: text.replace(old, new, 1)


def at_end(more: str) -> Break:
    """Something follows after the file."""
    return lambda text: text + more


def _bomb(text: str) -> str:
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    return "\n".join(levels) + "\n" + text


def _no_endpoint(text: str) -> str:
    return text[: text.index("  - name: fastserve")] + text[text.index("  - name: model-smollm2-135m") :]


def _circle(text: str) -> str:
    one = put("accuracy_prior: 0.15", "accuracy_prior: 0.15\n          fallback: [tiny]")(text)
    return put("accuracy_prior: 0.35", "accuracy_prior: 0.35\n          fallback: [smollm2-135m]")(one)


_MODEL = "import_path: serve_app.app:build_model\n    args:\n      id: smollm2-135m"
_PROFILE = "weights: {accuracy: 2, latency: 2, cost: 0}\n                target_s: 1.0"
_ALL_0 = "{accuracy: 0, latency: 0, cost: 0}"
_TINY = "context_tokens: 1024"
_PRIOR = "accuracy_prior: 0.15"
_LIVE = "        user_config:\n          capabilities: [chat, tools, json]\n          accuracy_prior: 0.15"
_HAPROXY = 'RAY_SERVE_ENABLE_HA_PROXY: "1"'
_CHAIN = "\n      FASTSERVE_TLS_CERT_FILE: /nowhere/tls.crt"
_SCALE = "        autoscaling_config:"

BROKEN = (
    Broken("no YAML", put("applications:", "applications: ]"), ":2", "Look at indentation"),
    Broken(
        "TLS behind HAProxy",
        put("  port: 8000", "  port: 8000\n  ssl_certfile: /c.pem\n  ssl_keyfile: /k.pem"),
        "http_options.ssl_certfile",
        "write FASTSERVE_TLS_CERT_FILE and FASTSERVE_TLS_KEY_FILE into controller_options.runtime_env",
    ),
    Broken(
        "a certificate that is not there",
        put(_HAPROXY, f"{_HAPROXY}{_CHAIN}\n      FASTSERVE_TLS_KEY_FILE: /nowhere/tls.key"),
        "env_vars.FASTSERVE_TLS_CERT_FILE",
        "name a PEM file that is on this machine",
    ),
    Broken(
        "a certificate without its key",
        put(_HAPROXY, f"{_HAPROXY}{_CHAIN}"),
        "env_vars.FASTSERVE_TLS_CERT_FILE",
        "FASTSERVE_TLS_KEY_FILE is missing",
    ),
    Broken("a tab", put("  port: 8000", "\tport: 8000"), ":6", "is not YAML"),
    Broken("python", put("beta: 20", "beta: !!python/object/apply:os.system [id]"), "dispatch.beta", "tag"),
    Broken("a tag of its own", put("beta: 20", "beta: !twenty 20"), "dispatch.beta", "write a plain value"),
    Broken("alias bomb", _bomb, "config", "once its aliases are followed"),
    Broken("contains itself", put("num_cpus: 0.25", "num_cpus: &n [*n]"), "args.num_cpus", "contains itself"),
    Broken("too large", at_end("# " + "x" * (1 << 20)), "config", "more than 1048576 bytes"),
    Broken("nested too deeply", at_end("deep: " + "[" * 5000), "config", "nested too deeply"),
    Broken("two documents", at_end("---\na: 1\n"), "config", "is not YAML"),
    Broken("duplicate key", put("port: 8000", "port: 8000\n  port: 8001"), "http_options.port", "remove one"),
    Broken("a list as a key", put("  port: 8000", "  ? [a]\n  : 8000"), "http_options", "plain word"),
    Broken("a date", put("dtype: bfloat16", "dtype: 2026-01-01"), "engine_args.dtype", "in quotes"),
    Broken("no mapping", lambda _: "- applications\n", "config", "must be a mapping"),
    Broken("empty", lambda _: "# nothing\n", "config", "must be a mapping"),
    Broken("no applications", lambda _: "proxy_location: HeadOnly\n", "applications", "is missing"),
    Broken("key of Serve", put("http_options:", "http_option:"), ":4: http_option", "'http_options'?"),
    Broken("key of an app", put("route_prefix: /", "route_prefx: /"), "route_prefx", "'route_prefix'?"),
    Broken("deployment key", put("num_replicas: 1", "num_replica: 1"), "num_replica", "'num_replicas'?"),
    Broken("argument", put("evaluator: true", "evaluater: true"), "args.evaluater", "'evaluator'?"),
    Broken("setting", put("epsilon: 0.02", "epsilom: 0.02"), "dispatch.epsilom", "'epsilon'?"),
    Broken("setting of learning", put("{threads: 1}", "{thread: 1}"), "training.thread", "'threads'?"),
    Broken("wrong builder", put("app:build\n", "app:bild\n"), "import_path", "'serve_app.app:build'?"),
    Broken("unknown deployment", put("name: Ingress", "name: Ingres"), "deployments[2].name", "'Ingress'?"),
    Broken("deployment twice", put("name: Learner", "name: Evaluator"), "[1].name", "listed twice"),
    Broken("switched off", put("learner: true", "learner: false"), "[1].name", "args.learner to true"),
    Broken("text for a number", put("beta: 20", "beta: plenty"), "dispatch.beta", "valid number"),
    Broken("number for text", put('KVCACHE_SPACE: "1"', "KVCACHE_SPACE: 1"), "KVCACHE_SPACE", "quotes"),
    Broken("out of bounds", put("epsilon: 0.02", "epsilon: 0.5"), "dispatch.epsilon", "less than or equal"),
    Broken("not finite", put("beta: 20", "beta: .inf"), "dispatch.beta", "finite"),
    Broken("all 0", put("{accuracy: 1, latency: 1, cost: 0}", _ALL_0), "dispatch.weights", "above 0"),
    Broken("reserved id", put("id: tiny", "id: auto"), "args.id", "reserved"),
    Broken("impossible id", put("id: tiny", "id: 'tiny model'"), "args.id", "pattern"),
    Broken("name without its model", put("name: model-tiny", "name: tiny"), ".name", "'model-tiny'"),
    Broken("two apps of one name", put("name: model-tiny", "name: fastserve"), "[3].name", "rename"),
    Broken("two models of one id", put("id: smollm2-tuned", "id: smollm2-135m"), "args.id", "two models"),
    Broken("two routes", put(f"route_prefix: null\n    {_MODEL}", _MODEL), "[1].route_prefix", "null"),
    Broken("bad route", put("route_prefix: /", "route_prefix: api"), "route_prefix", "/"),
    Broken("missing suite", put("suites/recommend", "suites/recomend"), "suites[3]", "name a file"),
    Broken(
        "model of a profile",
        put(_PROFILE, f"allowed: [tinny]\n                {_PROFILE}"),
        "allowed[0]",
        "'tiny'?",
    ),
    Broken(
        "model of the evaluator",
        put("pace:", "models: [nobody]\n          pace:"),
        "user_config.models[0]",
        "is not in this file",
    ),
    Broken(
        "nobody for the evaluator to ask",
        put('RAY_SERVE_ENABLE_HA_PROXY: "1"', 'RAY_SERVE_ENABLE_HA_PROXY: "0"'),
        "deployments[0].user_config",
        "write user_config.endpoint",
    ),
    Broken("built-in source", put("builtin:tiny", "builtin:tinny"), "args.source", "'builtin:tiny'?"),
    Broken("no such folder", put("builtin:tiny", "/no/such/folder"), "args.source", "no folder"),
    Broken("live setting", put(_TINY, f"weight: 0.5\n      {_TINY}"), "[3].args", "into 'user_config'"),
    Broken("min above max", put(_LIVE, f"{_SCALE} {{min_replicas: 3}}\n{_LIVE}"), "[1]", "max_replicas"),
    Broken("Serve's scaling", put(_LIVE, f"{_SCALE} {{}}\n{_LIVE}"), "config.policy", "policy: {policy"),
    Broken(
        "sleep without waking",
        put(_LIVE, f"{_SCALE} {{min_replicas: 0, policy: {{policy_function: {ONGOING_REQUESTS}}}}}\n{_LIVE}"),
        "min_replicas",
        "nothing would wake",
    ),
    Broken(
        "delay before a plan",
        put(
            _LIVE,
            f"{_SCALE} {{upscale_delay_s: 0, policy: {{policy_function: {PLANNED_REPLICAS}}}}}\n{_LIVE}",
        ),
        "downscale_delay_s",
        "must be 0",
    ),
    Broken(
        "setting of a plan",
        put(
            _LIVE,
            f"{_SCALE} {{upscale_delay_s: 0, downscale_delay_s: 0, policy: {{policy_function: "
            f"{PLANNED_REPLICAS}, policy_kwargs: {{idle: 3}}}}}}\n{_LIVE}",
        ),
        "policy_kwargs.idle",
        "'idle_s'",
    ),
    Broken("null settings", put(_LIVE, "        user_config: null"), "user_config", "remove the line"),
    Broken("long drain", put(_PRIOR, f"{_PRIOR}\n          drain_s: 90"), "drain_s", "timeout_s: 135"),
    Broken(
        "alias of an id", put(_PRIOR, f"{_PRIOR}\n          aliases: [tiny]"), "aliases[0]", "already names"
    ),
    Broken("unknown chain", put(_PRIOR, f"{_PRIOR}\n          fallback: [tinny]"), "fallback[0]", "'tiny'?"),
    Broken("circle", _circle, "fallback", "smollm2-135m -> tiny -> smollm2-135m"),
    Broken("faults", put(_PRIOR, f"{_PRIOR}\n          faults: {{}}"), "user_config.faults", "simulated"),
    Broken(
        "no price under a limit in dollars",
        put("beta: 20", "beta: 20\n            guard: {key_usd_per_day: 5}"),
        "user_config",
        "has price 0",
    ),
    Broken(
        "GPUs do not divide",
        put(_TINY, f"{_TINY}\n      num_gpus: 3\n      tensor_parallel: 2"),
        "args",
        "must be 2",
    ),
    Broken(
        "context beyond the engine's",
        put("max-num-seqs: 32", "max-num-seqs: 32\n        max-model-len: 512"),
        "context_tokens",
        "lower one of them",
    ),
    Broken("vain deadline", put("first_byte_s: 60", "first_byte_s: 600"), "first_byte_s", "lower"),
    Broken("vain target", put("target_s: 1.0", "target_s: 900"), "target_s", "no request can"),
    Broken("no endpoint", _no_endpoint, "applications", "add the endpoint"),
    Broken("port of another kind", put("port: 8000", "port: all"), "http_options.port", "integer"),
)
