"""What a plan says: who is added, removed, restarted and why, and what changes live."""

import copy
from typing import Any

import pytest
import yaml

from serve_app.cluster_file.applications import ENDPOINT, MODEL, apps_of
from serve_app.cluster_file.changes import Change, changes, removes_service
from serve_app.cluster_file.demand import demand, shortages
from serve_app.cluster_file.document import parse_document
from tests.serve_app.cluster_file.broken_files import GOOD

FIRST: dict[str, Any] = yaml.safe_load(GOOD)


def edited(edit: Any) -> dict[str, Any]:
    config = copy.deepcopy(FIRST)
    edit(config)
    return config


def ingress(config: dict[str, Any]) -> dict[str, Any]:
    return next(entry for entry in config["applications"][0]["deployments"] if entry["name"] == "Ingress")


def test_the_same_file_changes_nothing() -> None:
    assert changes(FIRST, copy.deepcopy(FIRST)) == []


def test_a_model_more_and_a_model_less_touch_no_other() -> None:
    without = edited(lambda config: config["applications"].pop(3))
    assert changes(without, FIRST) == [Change("added", "model-tiny")]
    assert changes(FIRST, without) == [Change("removed", "model-tiny")]


def test_arguments_restart_their_app_and_say_which_key() -> None:
    after = edited(
        lambda config: config["applications"][3]["args"]["engine_args"].update({"max-num-seqs": 8})
    )
    assert changes(FIRST, after) == [
        Change("restarted", "model-tiny", ("args.engine_args.max-num-seqs: 32 -> 8",))
    ]


def test_user_config_and_replicas_change_live() -> None:
    def edit(config: dict[str, Any]) -> None:
        ingress(config)["user_config"]["dispatch"]["beta"] = 10
        ingress(config)["num_replicas"] = 2

    assert changes(FIRST, edited(edit)) == [
        Change(
            "changed live",
            "fastserve.Ingress",
            ("num_replicas: 1 -> 2", "user_config.dispatch.beta: 20 -> 10"),
        )
    ]


def test_what_needs_no_process_of_a_model_changes_live() -> None:
    def edit(config: dict[str, Any]) -> None:
        [model] = config["applications"][3]["deployments"]
        model["user_config"] |= {"price": {"prompt_usd_per_mtok": 0.5}, "weight": 0, "drain_s": 20}
        model["num_replicas"] = 3

    assert changes(FIRST, edited(edit)) == [
        Change(
            "changed live",
            "model-tiny.Model",
            (
                "num_replicas: absent -> 3",
                "user_config.price: absent -> {'prompt_usd_per_mtok': 0.5}",
                "user_config.weight: absent -> 0",
                "user_config.drain_s: absent -> 20",
            ),
        )
    ]


def test_actor_options_restart_one_deployment() -> None:
    after = edited(lambda config: ingress(config).update({"ray_actor_options": {"num_cpus": 2}}))
    assert changes(FIRST, after) == [
        Change("restarted", "fastserve.Ingress", ("ray_actor_options: absent -> {'num_cpus': 2}",))
    ]


def test_what_serve_reads_only_at_its_start_is_said_to_wait() -> None:
    after = edited(lambda config: config["http_options"].update({"port": 9000}))
    (change,) = changes(FIRST, after)
    assert change == Change(
        "ignored", "http_options, until Serve is started anew", ("http_options.port: 8000 -> 9000",)
    )


@pytest.mark.parametrize(("builder", "left"), [(MODEL, 1), (ENDPOINT, 0)])
def test_a_file_that_leaves_no_model_or_no_endpoint_removes_the_service(builder: str, left: int) -> None:
    after = edited(lambda config: config.update(applications=config["applications"][:left]))
    assert removes_service(FIRST, after, builder)
    assert not removes_service(FIRST, FIRST, builder)
    assert not removes_service({}, {}, builder)


def test_a_false_or_a_zero_is_a_change() -> None:
    after = edited(lambda config: config["applications"][0]["args"].update(learner=False))
    assert [change.reasons for change in changes(FIRST, after)] == [("args.learner: True -> False",)]
    after = edited(lambda config: ingress(config)["user_config"]["dispatch"].update(epsilon=0))
    assert [change.reasons for change in changes(FIRST, after)] == [
        ("user_config.dispatch.epsilon: 0.02 -> 0",)
    ]


def test_more_gpus_than_there_are_is_said() -> None:
    gpus = GOOD.replace("context_tokens: 1024", "context_tokens: 1024\n      num_gpus: 4")
    needed = demand(apps_of(parse_document(gpus.encode())))
    assert needed["GPU"] == 4.0
    (sentence,) = shortages(needed, {"CPU": 64.0, "GPU": 3.0})
    assert sentence.startswith("The file needs 4 GPUs and the cluster has 3:")
    assert shortages(needed, {"CPU": 64.0, "GPU": 8.0}) == []
