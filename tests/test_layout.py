"""The shape of the whole: imports go one way, the code location is light, and its graph is the one that is documented."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from mimic_assets.definitions import defs

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("mimic_core", "resources", "mimic_assets")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
HEAVY = ("tensorflow", "keras", "pandas")
FORBIDDEN = {
    "mimic_core": {
        "resources",
        "mimic_assets",
        "dagster",
        "boto3",
        "botocore",
        "pyiceberg",
        "kubernetes",
        "time",
        "datetime",
    },
    "resources": {"mimic_assets"},
    "mimic_assets": {"boto3", "pyiceberg", "sqlalchemy"},
}
DAGSTER_WARNS = "ignore:Property `OpDefinition.version` is deprecated:DeprecationWarning"  # see conftest.py


def name(path: Path) -> str:
    """A module as it is named in messages."""
    return path.relative_to(ROOT).as_posix()


def imported(path: Path) -> set[str]:
    """The top-level packages that a module imports anywhere, also inside functions or for types only."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return {name.partition(".")[0] for name in names}


def reads_environment(path: Path) -> bool:
    """Whether a module mentions os.environ or os.getenv."""
    attributes = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute))
    return any(node.attr in {"environ", "getenv"} for node in attributes)


def loaded_by(code: str, names: tuple[str, ...], tmp_path: Path) -> list[str]:
    """Which of some packages a fresh interpreter has loaded after it ran some code, every warning being an error."""
    code = f"import json, sys\n{code}\nprint(json.dumps([name for name in {names!r} if name in sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-W", DAGSTER_WARNS, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"MIMIC_HOME": str(tmp_path)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_imports_go_one_way():
    wrong = {name(path): imported(path) & FORBIDDEN[name(path).partition("/")[0]] for path in MODULES}
    assert {module: packages for module, packages in wrong.items() if packages} == {}


def test_only_the_command_line_and_the_environments_module_read_the_environment():
    reading = {name(path) for path in MODULES if reads_environment(path) and "/cli/" not in name(path)}
    assert reading == {"resources/environments.py"}


def test_every_module_begins_with_a_docstring():
    assert [name(path) for path in MODULES if ast.get_docstring(ast.parse(path.read_text())) is None] == []


def test_outside_the_command_line_assets_catch_errors_in_one_module_only():
    catching = [
        path.name
        for path in (ROOT / "mimic_assets").rglob("*.py")
        if "cli" not in path.parts
        and any(isinstance(node, ast.Try) and node.handlers for node in ast.walk(ast.parse(path.read_text())))
    ]
    assert catching == ["failures.py"]


def test_no_package_marker_below_tests_shadows_a_package():
    assert not list((ROOT / "tests").rglob("__init__.py"))


@pytest.fixture(scope="module")
def location(tmp_path_factory):
    """What loading the code location brought with it, and the folder in which it was loaded."""
    folder = tmp_path_factory.mktemp("location")
    code = "import mimic_assets.definitions\nmimic_assets.definitions.defs().get_repository_def()"
    return loaded_by(code, HEAVY, folder), folder


def test_the_code_location_loads_without_tensorflow_or_pandas_and_without_a_warning(location):
    loaded, _ = location
    assert loaded == []


def test_loading_the_code_location_touches_no_files(location):
    _, folder = location
    assert not list(folder.iterdir())


def test_the_command_line_starts_without_anything_heavy(tmp_path):
    heavy = (*HEAVY, "dagster", "pyarrow", "pyiceberg", "numpy", "scipy")
    assert loaded_by("import mimic_assets.cli.main", heavy, tmp_path) == []


def test_the_status_needs_nothing_heavy_where_nothing_changed(tmp_path):
    code = "from click.testing import CliRunner\nfrom mimic_assets.cli.main import main\n"
    code += "assert 'nothing yet' in CliRunner().invoke(main, ['status']).output"
    assert loaded_by(code, (*HEAVY, "pyiceberg", "scipy", "mimic_assets.definitions"), tmp_path) == []


def test_the_graph_is_the_one_that_is_documented(tmp_path, monkeypatch):
    monkeypatch.setenv("MIMIC_HOME", str(tmp_path))
    graph = defs().get_repository_def().asset_graph
    shape = {
        key.to_user_string(): (
            graph.get(key).partitions_def and graph.get(key).partitions_def.name,
            graph.get(key).group_name,
            sorted(parent.to_user_string() for parent in graph.get(key).parent_keys),
        )
        for key in graph.get_all_asset_keys()
    }
    assert shape == {
        "source_table": ("source_tables", "sources", []),
        "contrast_set": ("contrast_sets", "contrasts", ["source_table"]),
        "tfrecord_dataset": ("tfrecord_datasets", "datasets", ["contrast_set", "source_table"]),
        "model_run": ("model_runs", "models", ["tfrecord_dataset"]),
        "inference_table": ("inference_tables", "inferences", ["model_run", "source_table"]),
        "experiment_report": ("experiments", "models", ["model_run"]),
        "overview": (None, "overview", []),
    }
    partitions = [graph.get(key).partitions_def for key in graph.get_all_asset_keys()]
    assert all(isinstance(each, dg.DynamicPartitionsDefinition) for each in partitions if each)
    assert {key.to_user_string() for key in graph.asset_check_keys} == {
        "source_table:decision_table_contract",
        "source_table:individuals_disjoint",
        "source_table:freshness",
        "contrast_set:decision_table_contract",
        "tfrecord_dataset:decision_table_contract",
        "inference_table:decision_table_contract",
        "contrast_set:individuals_disjoint",
        "tfrecord_dataset:individuals_disjoint",
        "contrast_set:contrast_balance",
        "inference_table:probabilities_sum_to_one",
        "inference_table:calibration",
        "inference_table:feature_drift",
        "contrast_set:up_to_date",
        "tfrecord_dataset:up_to_date",
        "model_run:up_to_date",
        "inference_table:up_to_date",
        "experiment_report:up_to_date",
    }


def test_every_asset_describes_itself_and_can_be_observed_or_built(tmp_path, monkeypatch):
    monkeypatch.setenv("MIMIC_HOME", str(tmp_path))
    graph = defs().get_repository_def().asset_graph
    assert all(graph.get(key).description for key in graph.get_all_asset_keys())
    assert {key.to_user_string() for key in graph.materializable_asset_keys} == {
        "contrast_set",
        "tfrecord_dataset",
        "model_run",
        "inference_table",
        "experiment_report",
        "overview",
    }
    assert {key.to_user_string() for key in graph.observable_asset_keys} == {"source_table"}


def test_the_catalogue_has_owners_kinds_tags_columns_and_the_code_of_every_asset(tmp_path, monkeypatch):
    monkeypatch.setenv("MIMIC_HOME", str(tmp_path))
    monkeypatch.setenv("MIMIC_OWNERS", "team:choice, ada@example.org")
    monkeypatch.setenv("MIMIC_CODE_URL", "https://example.org/mimic/blob/main/")
    graph = defs().get_repository_def().asset_graph
    nodes = {key.to_user_string(): graph.get(key) for key in graph.get_all_asset_keys()}
    assert all(node.owners == ["team:choice", "ada@example.org"] for node in nodes.values())
    assert {name: (sorted(node.kinds), node.tags["mimic/holds"]) for name, node in nodes.items()} == {
        "source_table": (["iceberg", "parquet"], "decision-table"),
        "contrast_set": (["iceberg", "parquet"], "decision-table"),
        "tfrecord_dataset": (["tensorflow", "tfrecord"], "training-data"),
        "model_run": (["keras"], "model"),
        "inference_table": (["iceberg", "parquet"], "scores"),
        "experiment_report": (["html"], "report"),
        "overview": (["markdown"], "report"),
    }
    schemas = {name: node.metadata.get("dagster/column_schema") for name, node in nodes.items()}
    assert {name for name, schema in schemas.items() if schema} == {
        "source_table",
        "contrast_set",
        "model_run",
        "inference_table",
    }
    assert all(column.description for schema in schemas.values() if schema for column in schema.columns)
    for name, node in nodes.items():
        (place,) = node.metadata["dagster/code_references"].code_references
        path, _, line = place.url.removeprefix("https://example.org/mimic/blob/main/").partition("#L")
        written = (ROOT / path).read_text().splitlines()[int(line) - 1 :]
        assert next(each for each in written if each.startswith("def ")).startswith(f"def {name}(")
        assert (ROOT / node.metadata["documentation"].value.removeprefix("https://example.org/mimic/blob/main/")).is_file()


def test_without_a_repository_the_code_is_named_where_it_lies(tmp_path, monkeypatch):
    monkeypatch.setenv("MIMIC_HOME", str(tmp_path))
    graph = defs().get_repository_def().asset_graph
    (place,) = graph.get(dg.AssetKey("model_run")).metadata["dagster/code_references"].code_references
    assert place.file_path == str(ROOT / "mimic_assets/runs.py")
    assert graph.get(dg.AssetKey("model_run")).owners == ["team:mimic"]


def test_every_job_sensor_and_schedule_says_what_it_is_for(tmp_path, monkeypatch):
    monkeypatch.setenv("MIMIC_HOME", str(tmp_path))
    repository = defs().get_repository_def()
    named = [*repository.get_all_jobs(), *repository.sensor_defs, *repository.schedule_defs]
    assert [each.name for each in named if each.name != "__ASSET_JOB" and not each.description] == []


def test_the_jobs_build_one_stage_each_or_register_or_maintain(tmp_path, monkeypatch):
    monkeypatch.setenv("MIMIC_HOME", str(tmp_path))
    repository = defs().get_repository_def()
    jobs = {
        job.name: {key.to_user_string() for key in job.asset_layer.executable_asset_keys}
        for job in repository.get_all_jobs()
    }
    del jobs["__ASSET_JOB"]
    assert jobs == {
        "build_contrast": {"contrast_set"},
        "build_dataset": {"tfrecord_dataset"},
        "train_run": {"model_run"},
        "infer_batch": {"inference_table"},
        "report_experiment": {"experiment_report"},
        "profile_sources": {"source_table"},
        "register_contrast_set": set(),
        "register_dataset": set(),
        "register_experiment": set(),
        "register_inference": set(),
        "register_specs": set(),
        "maintenance": set(),
        "approve_rebuild": set(),
        "answer_up_to_date": set(),
    }
    steps = {node.name for job in repository.get_all_jobs() if job.name != "__ASSET_JOB" for node in job.nodes}
    assert not any("up_to_date" in step for step in steps)


def test_sensors_and_schedules_start_builds_tell_of_failures_or_wait_to_be_turned_on(tmp_path, monkeypatch):
    monkeypatch.setenv("MIMIC_HOME", str(tmp_path))
    repository = defs().get_repository_def()
    running = {sensor.name: sensor.default_status.value for sensor in repository.sensor_defs}
    assert running == {
        "build_registered": "RUNNING",
        "build_requested": "RUNNING",
        "source_table_sensor": "RUNNING",
        "spec_sensor": "RUNNING",
        "up_to_date_sensor": "RUNNING",
        "dead_runs_sensor": "RUNNING",
        "rebuild_sensor": "STOPPED",
        "alert_on_failure": "RUNNING",
        "answer_commands": "STOPPED",
        "epochs_of_failed_runs": "RUNNING",
    }
    assert {schedule.name: schedule.default_status.value for schedule in repository.schedule_defs} == {
        "weekly_maintenance": "STOPPED"
    }
