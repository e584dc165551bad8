"""Dagster's instance: its settings, its database and the tables in it, and whether a daemon lives."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from resources.doctor.findings import Finding, ok, one_line, skipped, warning, wrong
from resources.doctor.machine import unwritable

if TYPE_CHECKING:
    import dagster as dg

ABOUT, DAEMON = "Dagster", "Dagster's daemon"
MADE = ("history", "schedules", "storage")  # folders of an instance in which something was done
DATABASES = ("sqlalchemy", "psycopg2", "sqlite3", "dagster_postgres")


def instance(home: Path, *, cluster: bool) -> Iterator[Finding]:
    """Look at the instance below DAGSTER_HOME.

    Args:
        cluster: whether a daemon must run, and settings must be there.
    """
    config = home / "dagster.yaml"
    if not config.exists():
        if cluster:
            do = "run `mimic doctor` in the pod for commands that deploy/helm/README.md describes, or mend DAGSTER_HOME"
            yield wrong(ABOUT, f"there is no {config}, so nothing here knows Dagster's database", do)
        else:
            yield skipped(ABOUT, f"no instance at {home} yet; the first build makes it")
        return
    import yaml

    try:
        settings = yaml.safe_load(config.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        yield _unusable(config, error)
        return
    elsewhere = isinstance(settings, dict) and bool({"storage", "run_storage"} & settings.keys())
    if not elsewhere and not any((home / name).exists() for name in MADE):  # to open it would make its databases
        yield skipped(ABOUT, f"nothing was built at {home} yet")
        return
    if not cluster and (problem := unwritable(home)):  # there it is part of the image
        yield wrong(ABOUT, f"{home}: cannot be written: {problem}", "set DAGSTER_HOME to a folder that you may write")
        return
    yield from _opened(home, config, cluster=cluster)


def _opened(home: Path, config: Path, *, cluster: bool) -> Iterator[Finding]:
    import dagster as dg

    try:
        with dg.DagsterInstance.from_config(str(home)) as opened:
            runs = opened.get_runs_count()
            yield _schema(opened) or ok(ABOUT, f"{home} can be used; {runs:,} runs")
            yield _daemon(opened, cluster=cluster)
    except Exception as error:  # of the settings, or of any database that they name
        yield _unusable(config, error)


def _unusable(config: Path, error: Exception) -> Finding:
    if causes := [each for each in _causes(error) if type(each).__module__.partition(".")[0] in DATABASES]:
        reason = one_line(getattr(causes[-1], "orig", None) or causes[-1])
        do = f"see that the database runs that {config} names, free space and rights"
        return wrong(ABOUT, f"its database cannot be used: {reason}", do)
    lines = [line for line in str(error).splitlines() if line.strip()]
    said = one_line(" ".join(lines[:2])) or type(error).__name__
    return wrong(ABOUT, f"{config} cannot be used: {said}", "mend it, or move it away: the next command makes a new one")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Stream an error and what it was raised for, the first cause last."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _schema(opened: "dg.DagsterInstance") -> Finding | None:
    """Say that the tables of a database are not those of this version of Dagster; None where they are."""
    storages = {"runs": opened.run_storage, "events": opened.event_log_storage, "schedules": opened.schedule_storage}
    for name, storage in storages.items():
        revisions = storage.alembic_version() if storage else None
        if revisions and revisions[0] != revisions[1]:
            found = f"the tables of its {name} are of revision {revisions[0] or 'none'}, expected {revisions[1]}"
            return wrong(ABOUT, found, "back its database up, then run `dagster instance migrate`")
    return None


def _daemon(opened: "dg.DagsterInstance", *, cluster: bool) -> Finding:
    statuses = opened.get_daemon_statuses()
    dead = sorted(name for name, status in statuses.items() if status.required and not status.healthy)
    if not dead:
        return ok(DAEMON, f"lives, with {', '.join(sorted(statuses))}")
    found = "none runs" if len(dead) == len(statuses) else f"does not run: {', '.join(dead)}"
    if cluster:
        do = "see `kubectl get pods -n mimic` and `kubectl logs -n mimic deploy/dagster-daemon`"
        return wrong(DAEMON, found, f"{do}; nothing is built without it")
    return warning(DAEMON, found, "`mimic dev` starts it; without it commands build by themselves, and nothing else does")
