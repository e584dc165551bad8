"""`mimic log-odds`: validate a config, register it, build it as Dagster runs, and sum up."""

import json
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mimic_assets.cli.servers import named_server
from mimic_assets.cli.summary import sum_up

if TYPE_CHECKING:
    from mimic_assets.outcomes import Outcome
    from mimic_core.specs import PartitionSpec

CONFIG = click.argument("config", type=click.Path(path_type=Path))


def _options(command: Callable[..., Any]) -> Callable[..., Any]:
    command = click.option("--register-only", is_flag=True, help="Register the partitions and build nothing.")(command)
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output.")(command)


@click.group(name="log-odds")
def log_odds() -> None:
    """Sample contrasts, build datasets, train runs, apply them.

    Each command takes a config, JSON or YAML, and builds it also where it is up to date; `mimic rebuild` builds only what is
    not. While a Dagster daemon such as that of `mimic dev` runs, it builds and the command follows; else the command builds.
    Ctrl-C ends the build either way. With --server a deployed platform builds, and the command follows.

    \b
    Examples:
      mimic log-odds build-dataset dataset.json
      mimic --server https://dagster.example.org log-odds build-dataset dataset.json
    """


@log_odds.command(name="build-contrast")
@CONFIG
@_options
def build_contrast(config: Path, register_only: bool, as_json: bool) -> None:
    """Sample pairs of a selected and a rejected choice into a table.

    \b
    Example:
      mimic log-odds build-contrast examples/first_table/contrast.json
    """
    from mimic_core.configs import parse_spec, read_document
    from mimic_core.specs import ContrastSpec

    spec = parse_spec(ContrastSpec, read_document(config), str(config))
    _finish(_build([(spec, "")], register_only, config), as_json)


@log_odds.command(name="build-dataset")
@CONFIG
@_options
def build_dataset(config: Path, register_only: bool, as_json: bool) -> None:
    """Turn a decision table or a contrast set into a sharded TFRecord dataset.

    \b
    Example:
      mimic log-odds build-dataset examples/first_table/dataset.json
    """
    from mimic_core.configs import parse_spec, read_document
    from mimic_core.specs import DatasetSpec

    spec = parse_spec(DatasetSpec, read_document(config), str(config))
    _finish(_build([(spec, "")], register_only, config), as_json)


@log_odds.command(name="run-experiment")
@CONFIG
@click.argument("layers", type=click.Path(path_type=Path), required=False)
@_options
def run_experiment(config: Path, layers: Path | None, register_only: bool, as_json: bool) -> None:
    """Train every model of an experiment, one run each.

    LAYERS is a Python file that defines LAYERS, a dict of functions that make a Keras layer; it is executed. It may be left
    out for layers named D<units> (dense, relu), D<units>-<activation>, dropout-<rate>, batch-norm or layer-norm. A cluster
    takes none unless it is allowed there.

    \b
    Example:
      mimic log-odds run-experiment examples/first_table/experiment.json examples/first_table/layers.py
    """
    from mimic_assets.registration import runs_of
    from mimic_core.configs import parse_spec, read_document, read_text
    from mimic_core.specs import ExperimentSpec

    spec = parse_spec(ExperimentSpec, read_document(config), str(config))
    # a layers file may print, and standard output is for the summary
    with redirect_stdout(sys.stderr):
        text = read_text(layers) if layers else None
        _require_ready(spec.runs[:1], register_only)  # before the seconds that it takes to make the layers
        new = runs_of(spec, text, str(config), str(layers or "layers"))
        outcomes = _build(new, register_only, config)
    several = sum(outcome.status == "built" for outcome in outcomes) > 1
    _finish(outcomes, as_json, f"compare the runs: mimic report {spec.experiment_key}" if several else "")


@log_odds.command(name="run-batch-infer")
@CONFIG
@_options
def run_batch_infer(config: Path, register_only: bool, as_json: bool) -> None:
    """Apply a trained run to every row of a table.

    \b
    Example:
      mimic log-odds run-batch-infer examples/first_table/inference.json
    """
    from mimic_core.backend import import_keras
    from mimic_core.configs import parse_spec, read_document
    from mimic_core.specs import InferenceSpec

    spec = parse_spec(InferenceSpec, read_document(config), str(config))
    # seconds in which no progress could be shown
    _finish(_build([(spec, "")], register_only, config, before=import_keras), as_json)


def _build(
    new: "Sequence[tuple[PartitionSpec, str]]",
    register_only: bool,
    config: Path,
    before: Callable[[], object] = lambda: None,
) -> "list[Outcome]":
    specs = [spec for spec, _ in new]
    if (server := named_server()) is not None:
        from mimic_assets.cli.remote import connect, post

        with redirect_stdout(sys.stderr):
            return post(connect(server), new, build=not register_only, where=str(config))
    from mimic_assets.cli.building import build
    from mimic_assets.cli.planning import opened, say_what_is_current
    from mimic_assets.outcomes import registered
    from mimic_assets.planning import make_plan
    from mimic_assets.registration import register
    from mimic_core.world import Node, State

    _require_ready(specs, register_only)
    with redirect_stdout(sys.stderr), opened() as (instance, resources):
        register(instance, resources["specs"], new)
        if register_only:
            return registered(specs)
        plan, _ = make_plan(instance, resources["inventory"])
        found = (plan.partitions.get(Node(spec.asset, spec.key)) for spec in specs)
        say_what_is_current([str(each.node) for each in found if each and each.state == State.CURRENT])
        return build(instance, specs, resources["artefacts"], before)


def _require_ready(specs: "Sequence[PartitionSpec]", register_only: bool) -> None:
    """Check that what is there lets specs be built; a server looks by itself, if it is there."""
    if (server := named_server()) is not None:
        from mimic_assets.cli.remote import connect

        connect(server)
    elif not register_only:
        from mimic_assets.cli.environment import local_resources
        from mimic_assets.ready import require_ready

        require_ready(specs, local_resources())


def _finish(outcomes: "Sequence[Outcome]", as_json: bool, advice: str = "") -> None:
    if as_json:
        click.echo(json.dumps({"partitions": [outcome.document() for outcome in outcomes]}, indent=1))
    else:
        sum_up(outcomes)
        if advice:
            click.echo(advice)
    if any(outcome.status == "failed" for outcome in outcomes):
        raise click.exceptions.Exit(1)
