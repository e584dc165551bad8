"""Where partitions are built, by a live daemon or in this process, and what came of each."""

import time
from collections.abc import Callable, Sequence

import click
import dagster as dg

from mimic_assets.cli.daemon import Daemon, daemon_lives
from mimic_assets.cli.execution import execute
from mimic_assets.cli.progress import progress
from mimic_assets.cli.submission import complain, submit
from mimic_assets.outcomes import Ended, Outcome, outcome_of
from mimic_core.specs import PartitionSpec, RunSpec
from resources.artefacts import ArtefactStore
from resources.environments import in_cluster
from resources.trainings import epochs_so_far

AGAIN = "building it again goes on after them"
DAEMON_SECONDS = 120  # in which a daemon of a cluster is back
LOOK_SECONDS = 2
NO_DAEMON = (
    "no daemon of Dagster answers, and in a cluster only it starts builds; look at its pod and at the sensor "
    "build_requested, then run the command again"
)


def build(
    instance: dg.DagsterInstance,
    specs: Sequence[PartitionSpec],
    artefacts: ArtefactStore,
    before: Callable[[], object] = lambda: None,
) -> list[Outcome]:
    """Build registered partitions of one asset; a live daemon does it, else this process, though not in a cluster.

    Args:
        before: called before this process builds something.

    Returns:
        What came of each, in the order of `specs`.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM; runs that waited are withdrawn, and those that were executed are ended.
    """
    ended = _submit(instance, specs, artefacts) if _daemon_answers(instance) else {}
    left = [spec for spec in specs if spec.key not in ended]
    if left and in_cluster():
        ended |= {spec.key: Ended(run_id=None, error=NO_DAEMON) for spec in left}
        for spec in left:
            complain(spec.asset, spec.key, NO_DAEMON)
        left = []
    if left:
        before()
    for spec in left:
        _say_kept(spec, artefacts, "goes on after them, unless its spec, dataset or code changed")
        with progress([spec]) as shown:
            try:
                run_id, error = execute(instance, spec, shown.reports[spec.key])
            except KeyboardInterrupt:
                _say_kept(spec, artefacts, AGAIN)
                raise
        ended[spec.key] = Ended(run_id=run_id, error=error)
        complain(spec.asset, spec.key, error)
    return [outcome_of(spec, ended[spec.key], artefacts) for spec in specs]


def _daemon_answers(instance: dg.DagsterInstance) -> bool:
    """Tell whether a daemon would build; in a cluster it is waited for, as it may just be upgraded or moved."""
    if (lives := daemon_lives(instance)) or not in_cluster():
        return lives
    click.echo(f"mimic: no daemon of Dagster answers yet; waiting up to {DAEMON_SECONDS} seconds for it", err=True)
    end = time.monotonic() + DAEMON_SECONDS
    while not (lives := daemon_lives(instance)) and time.monotonic() < end:
        time.sleep(LOOK_SECONDS)
    return lives


def _say_kept(spec: PartitionSpec, artefacts: ArtefactStore, what: str) -> None:
    """Say how many epochs of a network an unfinished training has kept, and what that means."""
    if isinstance(spec, RunSpec) and not spec.model.linear and (kept := epochs_so_far(artefacts, spec.folder)):
        click.echo(
            f"mimic: {spec.asset} {spec.key}: {len(kept):,} epochs of an unfinished training are kept; {what}", err=True
        )


def _submit(instance: dg.DagsterInstance, specs: Sequence[PartitionSpec], artefacts: ArtefactStore) -> dict[str, Ended]:
    try:
        with progress(specs) as shown:
            ended = submit(Daemon(instance, artefacts, specs), shown)
    except KeyboardInterrupt:
        for spec in specs:
            _say_kept(spec, artefacts, AGAIN)
        raise
    for spec in specs:
        complain(spec.asset, spec.key, ended[spec.key].error if spec.key in ended else None)
    return ended
