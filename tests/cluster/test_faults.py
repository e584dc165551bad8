"""What happens on a cluster when something is lost, too large, wrong or canceled, and how many steps run at once."""

import re
import signal

import dagster as dg
import pytest

from mimic_core.specs import DatasetSpec, ExperimentSpec

SLOW = [{"layers": ["D4"], "epochs": 60, "batch_size": 1}]
LONG = [{"layers": ["D4"], "epochs": 100_000, "batch_size": 1}]
LINEAR = [{"layers": []}]
STOP = "mutation Stop($id: String!) { terminateRun(runId: $id) { __typename } }"


@pytest.fixture(scope="module")
def with_dataset(platform):
    """The platform with a dataset to train on."""
    platform.ended(platform.launch("tfrecord_dataset", platform.register(DatasetSpec)))
    return platform


def training(platform, models=SLOW, **changes):
    """Launch a training that takes a while; returns the id of its Dagster run."""
    return platform.launch("model_run", platform.register(ExperimentSpec, models=models, **changes))


def epochs_of(platform, run_id):
    return [event for event in platform.events(run_id) if event.event_type_value == "ASSET_OBSERVATION"]


def pod_of(platform, run_id, step):
    """Return the name of the pod of a step that runs now; None where it does not."""
    job = platform.steps(run_id).get(step)
    pod = platform.cluster.pod_of(job["metadata"]["name"]) if job else None
    return pod["metadata"]["name"] if pod and pod["status"]["phase"] == "Running" else None


def retries(platform, run_id):
    """Return why steps of a run were begun anew."""
    events = [event for event in platform.events(run_id) if event.is_step_up_for_retry]
    return [event.step_retry_data.error.message for event in events]


def failures(platform, run_id):
    events = [event for event in platform.events(run_id) if event.is_step_failure]
    return [event.step_failure_data.error.message for event in events]


def logged(platform, run_id):
    with platform.instance as instance:
        return "\n".join(entry.user_message for entry in instance.all_logs(run_id))


def test_a_killed_training_goes_on_from_its_checkpoint_in_another_pod(with_dataset, waiting):
    platform = with_dataset
    run_id = training(platform)
    waiting(lambda: len(epochs_of(platform, run_id)) >= 5, 90)
    killed = pod_of(platform, run_id, "model_run")
    platform.cluster.kill_pod(killed)
    assert platform.ended(run_id).is_success, platform.logs()
    assert retries(platform, run_id) == [f"the pod {killed} of step model_run was killed (exit code 137)"]
    first, second = platform.steps(run_id).values()
    assert second["metadata"]["name"] == f"{first['metadata']['name']}-1"
    assert re.search(
        "goes on after epoch [0-9]+, from the checkpoint of a training that was cut off", logged(platform, run_id)
    )


def test_a_training_whose_node_is_drained_goes_on_in_another_pod(with_dataset, waiting):
    platform = with_dataset
    run_id = training(platform, experiment_name="drained")
    waiting(lambda: len(epochs_of(platform, run_id)) >= 2, 90)
    platform.cluster.answer("DELETE", f"/api/v1/namespaces/default/pods/{pod_of(platform, run_id, 'model_run')}", None)
    assert platform.ended(run_id).is_success, platform.logs()
    assert len(retries(platform, run_id)) == 1
    assert "goes on after epoch" in logged(platform, run_id)


def test_a_run_that_something_else_marks_as_failed_leaves_nothing_running(with_dataset, waiting, pause):
    """One answer of the API that is an error suffices for the daemon to do so."""
    platform = with_dataset
    run_id = training(platform, LONG, experiment_name="mistaken")
    waiting(lambda: len(epochs_of(platform, run_id)) >= 2, 90)
    pause(epochs_of(platform, run_id)[0].pid, platform.home)  # it would keep a core busy
    with platform.instance as instance:
        instance.add_run_tags(run_id, {"dagster/max_retries": "0"})
        instance.report_run_failed(instance.get_run_by_id(run_id), "as the daemon says it")
    left = lambda: [job for job in platform.cluster.jobs_of(run_id, deleted=False) if job["status"].get("active")]  # noqa: E731
    waiting(lambda: not left(), 90)
    events = platform.events(run_id)  # nothing is added to how it ended, which could have it launched anew
    assert [event.message for event in events if event.is_run_failure] == ["as the daemon says it"]
    assert any("for a run that was already in a failure state" in (event.message or "") for event in events)


def test_a_step_whose_pod_is_gone_altogether_is_begun_anew(with_dataset, waiting):
    platform = with_dataset
    run_id = training(platform, experiment_name="gone")
    pod = waiting(lambda: pod_of(platform, run_id, "model_run"), 90)
    job = platform.cluster.pods[pod]["metadata"]["labels"]["job-name"]
    with platform.cluster.lock:  # as when a node is removed, and what was on it
        platform.cluster.kill_pod(pod)
        platform.cluster.delete_job(job, "Background")
    assert platform.ended(run_id).is_success, platform.logs()
    (why,) = retries(platform, run_id)
    assert why.startswith("the pod of step model_run was lost: Kubernetes job dagster-step-")


def test_a_step_whose_process_crashes_is_begun_anew_and_what_it_said_is_told(with_dataset, waiting):
    platform = with_dataset
    run_id = training(platform, experiment_name="crashed")
    pod = waiting(lambda: pod_of(platform, run_id, "model_run"), 90)
    waiting(lambda: epochs_of(platform, run_id), 90)
    platform.cluster.kill_pod(pod, signal.SIGSEGV)
    assert platform.ended(run_id).is_success, platform.logs()
    (why,) = retries(platform, run_id)
    begins = f"the process of step model_run ended with exit code 139 before the step did; its pod {pod} said at last:\n"
    assert why.startswith(begins)
    assert why.removeprefix(begins).strip() in platform.cluster.log_of(pod)


def test_a_step_that_takes_more_memory_than_its_limit_is_named_with_the_key_and_tried_once_more(platform):
    key = platform.register(DatasetSpec, dataset="small", compute={"memory": "64Mi"})
    run_id = platform.launch("tfrecord_dataset", key)
    assert platform.ended(run_id).is_failure
    (again,), (failed,) = retries(platform, run_id), failures(platform, run_id)
    step = "tfrecord_dataset.plan_dataset"
    expected = (
        rf"step {step} ran out of memory: its pod dagster-step-\S+ took more than its limit of 64Mi and was killed; give it "
        r'more by compute.memory in the spec of s/small, such as \{"compute": \{"memory": "128Mi"\}\}, and register it again'
    )
    assert re.fullmatch(expected, again)
    assert re.fullmatch(expected, failed)
    assert list(platform.steps(run_id)) == [step, f"{step}#1"]


def test_a_mistake_of_a_person_is_tried_once(platform):
    key = platform.register(DatasetSpec, dataset="wrong", table="nowhere")
    run_id = platform.launch("tfrecord_dataset", key)
    assert platform.ended(run_id).is_failure
    assert list(platform.steps(run_id)) == ["tfrecord_dataset.plan_dataset"]
    assert retries(platform, run_id) == []
    (said,) = failures(platform, run_id)
    assert "there is no table haven.nowhere" in said


def test_a_canceled_run_removes_its_jobs(with_dataset, waiting):
    platform = with_dataset
    run_id = training(platform, LONG, experiment_name="canceled")
    waiting(lambda: len(epochs_of(platform, run_id)) >= 2, 90)
    pods = [platform.cluster.pod_of(job["metadata"]["name"])["metadata"]["name"] for job in platform.cluster.jobs_of(run_id)]
    assert platform.ask(STOP, id=run_id)["terminateRun"]["__typename"] == "TerminateRunSuccess"
    assert platform.ended(run_id).status.value == "CANCELED", platform.logs()
    waiting(lambda: not set(pods) & platform.cluster.pods.keys())
    assert len(pods) == 2
    assert platform.cluster.jobs_of(run_id, deleted=False) == []


def test_a_step_that_finds_no_node_says_what_it_waits_for(with_dataset, waiting):
    platform = with_dataset
    run_id = training(platform, LINEAR, experiment_name="waits", compute={"node_selector": {"zone": "nowhere"}})
    said = "waits: no node takes its pod dagster-step-"
    waiting(lambda: said in logged(platform, run_id), 90)
    assert "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector." in logged(platform, run_id)
    platform.cluster.nodes[0]["labels"]["zone"] = "nowhere"  # one comes
    assert platform.ended(run_id).is_success, platform.logs()


def test_a_run_whose_own_pod_is_lost_is_launched_anew_and_its_steps_do_not_go_on_beside_it(with_dataset, waiting, pause):
    platform = with_dataset
    run_id = training(platform, LONG, experiment_name="orphaned")
    waiting(lambda: len(epochs_of(platform, run_id)) >= 2, 90)
    pause(epochs_of(platform, run_id)[0].pid, platform.home)  # it would keep a core busy
    own, step = platform.cluster.jobs_of(run_id)
    orphan = platform.cluster.pod_of(step["metadata"]["name"])["metadata"]["name"]
    platform.cluster.kill_pod(platform.cluster.pod_of(own["metadata"]["name"])["metadata"]["name"])
    assert platform.ended(run_id).is_failure
    again = waiting(lambda: [run for run in platform.runs("model_run") if run.parent_run_id == run_id], 60)[0]
    waiting(lambda: platform.cluster.pods.get(orphan, {"status": {"phase": "gone"}})["status"]["phase"] != "Running", 60)
    waiting(lambda: "goes on after epoch" in logged(platform, again.run_id))
    platform.ask(STOP, id=again.run_id)
    assert platform.ended(again.run_id).status.value == "CANCELED", platform.logs()


def test_the_steps_of_twenty_shards_are_no_more_at_once_than_their_pool_has_slots(platform):
    with platform.instance as instance:
        instance.event_log_storage.set_concurrency_slots("shards", 3)
    key = platform.register(DatasetSpec, dataset="many", train_partitions=20, test_partitions=20)
    run_id = platform.launch("tfrecord_dataset", key)
    assert platform.ended(run_id, 240).is_success, platform.logs()
    begin, end = dg.DagsterEventType.STEP_WORKER_STARTING, dg.DagsterEventType.STEP_SUCCESS
    with platform.instance as instance:  # a slot is free when its step has told its end, though its process goes on a moment
        told = [entry for entry in instance.all_logs(run_id, of_type={begin, end}) if "build_dataset_part" in entry.step_key]
    times = {kind: [entry.timestamp for entry in told if entry.dagster_event_type is kind] for kind in (begin, end)}
    held = lambda now: sum(began <= now for began in times[begin]) - sum(ended <= now for ended in times[end])  # noqa: E731
    most = max(map(held, times[begin]))
    jobs = [step for step in platform.steps(run_id) if "build_dataset_part" in step]
    assert (len(jobs), len(times[begin]), len(times[end]), most) == (20, 20, 20, 3)
