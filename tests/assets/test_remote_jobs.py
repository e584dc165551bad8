"""What a server does with what commands elsewhere post and ask, without a webserver."""

import json

import dagster as dg
import pytest

from mimic_assets.asked import answer
from mimic_assets.jobs import build_request
from mimic_assets.posted import PROTOCOL, REGISTERED, STEP
from mimic_assets.remote_jobs import register_specs
from mimic_assets.run_tags import LAUNCH, PARTITION, USER
from mimic_assets.sensors.asked import answer_commands
from mimic_core.configs import parse_spec
from mimic_core.specs import ExperimentSpec
from resources.environments import local_resources
from resources.requests import BuildRequest, open_requests, store_request

ONE = "1a" * 16  # id of a command
EXPERIMENT = {"experiment_name": "e", "space": "s", "dataset": "d", "max_choices": 3, "features": ["size", "age"]}
EXPERIMENT |= {"database": "haven", "table": "results", "models": [{"layers": ["D4"], "seeds": [1, 2]}]}
OWN = 'LAYERS = {"D4": lambda: Dense(9)}'


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def resources(home):
    return local_resources(home / "mimic")


def posted(layers="", **changes):
    """What a command posts of an experiment with two runs."""
    spec = parse_spec(ExperimentSpec, EXPERIMENT)
    specs = [{"document": json.dumps(run.document), "key": run.key, "layers": "own" if layers else ""} for run in spec.runs]
    files = {"own": layers} if layers else {}
    said = {"protocol": PROTOCOL, "asset": "model_run", "launch": ONE, "where": "my.json"}
    return said | {"specs": specs, "layers_files": files} | changes


def register(instance, resources, config):
    needed = {name: resources[name] for name in ("specs", "tables", "artefacts", "inventory")}
    run_config = {"ops": {STEP: {"config": config}}}
    return register_specs.execute_in_process(run_config, instance=instance, resources=needed, raise_on_error=False)


def refusal(result):
    (event,) = [event for event in result.all_events if event.is_step_failure]
    data = event.step_failure_data.user_failure_data
    return data.metadata["error"].value, data.description


def ask(instance, resources, what, **question):
    return json.loads(answer(json.dumps({"protocol": PROTOCOL, "ask": what, **question}), instance, resources))


def test_all_posted_specs_are_registered_with_the_ids_that_they_have_elsewhere(instance, resources):
    result = register(instance, resources, posted(OWN))
    keys = [run.key for run in parse_spec(ExperimentSpec, EXPERIMENT).runs]
    assert result.output_for_node(STEP) == keys
    assert resources["specs"].registered("model_run") == sorted(keys)
    assert instance.get_dynamic_partitions("model_runs") == keys
    assert instance.get_dynamic_partitions("experiments") == ["s/e"]
    assert open_requests(resources["artefacts"]) == []
    (output,) = [event.step_output_data for event in result.all_events if event.is_successful_output]
    said = output.metadata[REGISTERED].value
    assert said == {"current": [], "in_cluster": False, "launches_anew": False}


def test_what_cannot_be_built_is_refused_before_it_is_registered(instance, resources):
    error, said = refusal(register(instance, resources, posted(OWN, build=True)))
    assert error == "NotFoundError"
    assert said.startswith("dataset s/d is not built; run `mimic log-odds build-dataset CONFIG`")
    assert resources["specs"].registered("model_run") == []


def test_every_mistake_in_what_is_posted_is_named_with_its_config(instance, resources):
    config = posted()
    for spec, key in zip(config["specs"], ("epochs", "epoch"), strict=True):
        document = json.loads(spec["document"])
        document["model"][key] = "many"
        spec["document"] = json.dumps(document)
    error, said = refusal(register(instance, resources, config))
    assert error == "SpecError"
    assert said.splitlines()[0] == 'my.json: model.epochs: expected an integer, found "many" (string)'
    assert said.splitlines()[1].startswith("my.json: model.epoch: unknown key (did you mean 'epochs'?)")
    assert "expected specs of one of contrast_set," in refusal(register(instance, resources, posted(asset="x")))[1]


def test_what_another_version_posts_is_refused_before_anything_else(instance, resources):
    error, said = refusal(register(instance, resources, posted(protocol=999, asset="x")))
    assert error == "SpecError"
    assert "asked in version 999; install the same mimic on both sides" in said
    config = posted()
    config["specs"][1]["key"] = "s/e/other"
    error, said = refusal(register(instance, resources, config))
    assert said.startswith("my.json: s/e/other is s/e/")
    assert said.endswith("on this server; install the same mimic on both sides")
    assert resources["specs"].registered("model_run") == []


def test_a_withdrawal_that_came_first_wins(instance, resources, monkeypatch):
    monkeypatch.setattr("mimic_assets.remote_jobs.require_ready", lambda *_: None)
    keys = [run.key for run in parse_spec(ExperimentSpec, EXPERIMENT).runs]
    question = {"launch": ONE, "asset": "model_run", "keys": [], "withdrawn": keys, "user": "ada"}
    assert ask(instance, resources, "withdraw", **question) == {"answer": {}}
    assert register(instance, resources, posted(build=True)).success
    (request,) = open_requests(resources["artefacts"])
    assert (request.keys, request.withdrawn) == ((), tuple(keys))


def test_a_run_that_registers_is_not_launched_anew_where_its_pod_was_lost():
    assert register_specs.tags["dagster/max_retries"] == "0"


def test_a_question_of_an_unknown_asset_or_with_a_wrong_id_stores_nothing(instance, resources):
    question = {"launch": ONE, "asset": "model_run", "keys": [], "withdrawn": ["s/d"], "user": "ada"}
    for wrong in ({"asset": "x"}, {"launch": "../x"}):
        assert ask(instance, resources, "withdraw", **question | wrong)["refused"]["error"] == "SpecError"
    assert open_requests(resources["artefacts"]) == []


def test_a_cluster_registers_no_layers_file(instance, resources, monkeypatch):
    monkeypatch.setenv("MIMIC_ENV", "kubernetes")
    monkeypatch.setenv("MIMIC_CATALOG", "postgresql://nobody@nowhere/none")
    error, said = refusal(register(instance, resources, posted(OWN)))
    assert error == "SpecError"
    assert said.startswith("my.json: a layers file is code, which this cluster does not execute")
    assert resources["specs"].registered("model_run") == []


def test_the_runs_that_somebody_elsewhere_asked_for_say_who():
    tags = build_request("one:s/d", "tfrecord_dataset", "s/d", "one", "ada@laptop").tags
    assert {name: tags[name] for name in (LAUNCH, USER)} == {LAUNCH: "one", USER: "ada@laptop"}
    assert USER not in build_request("one:s/d", "tfrecord_dataset", "s/d", "one").tags


def test_a_request_keeps_who_asked(resources):
    request = BuildRequest(launch=ONE, asset="tfrecord_dataset", keys=("s/d",), time=1.0, user="ada@laptop")
    store_request(resources["artefacts"], request)
    assert open_requests(resources["artefacts"]) == [request]


def test_an_unknown_question_and_another_version_are_refused_by_name(instance, resources):
    refused = ask(instance, resources, "what")["refused"]
    assert refused["error"] == "SpecError"
    assert "found the question 'what'" in refused["message"]
    refused = ask(instance, resources, "status", protocol=999)["refused"]
    assert "asked in version 999; install the same mimic on both sides" in refused["message"]


def test_a_command_takes_back_its_own_runs_only(instance, resources):
    @dg.op
    def step():
        pass

    @dg.job
    def job():
        step()

    runs = {
        launch: instance.create_run_for_job(
            job, status=dg.DagsterRunStatus.STARTED, tags={LAUNCH: launch, PARTITION: "s/d"}
        ).run_id
        for launch in (ONE, "other")
    }
    asked = {"launch": ONE, "run_ids": list(runs.values())}
    assert ask(instance, resources, "kill", **asked) == {"answer": {}}
    statuses = {launch: instance.get_run_by_id(run_id).status.value for launch, run_id in runs.items()}
    assert statuses == {ONE: "CANCELED", "other": "STARTED"}
    question = {"asset": "tfrecord_dataset", "keys": [], "withdrawn": ["s/d"], "user": "ada"}
    ask(instance, resources, "withdraw", launch=ONE, **question)
    (request,) = open_requests(resources["artefacts"])
    assert (request.launch, request.keys, request.withdrawn) == (ONE, (), ("s/d",))


def test_by_itself_the_sensor_of_questions_does_nothing(instance, resources):
    needed = {name: resources[name] for name in ("specs", "artefacts", "inventory", "spec_folder", "rebuild_policy")}
    for cursor, wanted in ((None, "nothing was asked"), (json.dumps({"ask": "x"}), '{"refused": {"error": "SpecError"')):
        with dg.build_sensor_context(instance=instance, cursor=cursor, resources=needed) as context:
            said = answer_commands(context)
        assert isinstance(said, dg.SkipReason)
        assert said.skip_message.startswith(wanted)
