"""The benchmark of clients: nothing that a client does not tell counts as passed."""

import json

from scripts.benchmarks.clients.clients import CASES, CLIENTS, HERE, Client, document, told

CLIENT = Client("one", "one.py", ("one",))


def line(case, ok=True):
    return json.dumps({"case": case, "ok": ok, "error": "" if ok else "no"})


def test_a_case_that_is_not_told_has_failed():
    output = "\n".join(["chatter", line("plain"), line("stream", ok=False)])
    found = {case.case: case.ok for case in told(CLIENT, output, "the log")}
    assert found == {case: case == "plain" for case in CASES}


def test_further_cases_are_kept():
    found = told(CLIENT, "\n".join(map(line, (*CASES, "test_more"))), "")
    assert [case.case for case in found] == [*CASES, "test_more"]
    assert all(case.ok for case in found)


def test_every_client_has_its_script():
    assert [client.name for client in CLIENTS if not (HERE / client.script).is_file()] == []


def test_the_pool_holds_no_evaluator_and_simulated_models_only():
    apps = document()["applications"]
    assert [app["name"] for app in apps] == ["fastserve", "model-mock", "model-slow"]
    assert {app["args"]["engine"] for app in apps[1:]} == {"simulated"}
