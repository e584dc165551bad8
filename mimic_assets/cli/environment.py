"""`mimic env` and `mimic dev`: where everything lives on this machine, and the Dagster UI over it."""

import fcntl
import hashlib
import os
import signal
import sys
from contextlib import ExitStack, suppress
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mimic_assets.cli.servers import env_file

if TYPE_CHECKING:
    from collections.abc import Callable

    import dagster as dg

# SHA-256 of the dagster.yaml of earlier versions: a copy of one is replaced, an edited one is left alone
SHIPPED_BEFORE = {
    "9abd6883aa6d2fb6528a82536401b56e9de52efc83be0703985520dcb20eded2",
    "8cc5a200066d8c38e5e8e63fdb1b3db872384de7abc5128485b1b355d1a1f536",
    "0b8e066c8af5ae64996cf1b715f5588895cc930109269abdc68397e7e0935fda",
    "daf5aa809479a266f7d671d759bcd31c84aef7b2b0501aafe7afe7dea3c551d3",
    "b73a18521d0060da1d0e0d3bb950af6ff86dead985e5336486fa8c3d3740e32b",
}


def settings() -> dict[str, str]:
    """Decide MIMIC_HOME and DAGSTER_HOME (the environment, then `.env`, then the defaults), and set them; nothing is made.

    The other settings are taken from the environment or `.env` too, and left out where neither has them.
    """
    # a mistake in a setting is told now, not by the first alert or when Dagster loads the code location
    for check in checks_of_settings():
        check()
    return _chosen()


def checks_of_settings() -> "tuple[Callable[[], object], ...]":
    """Take what `.env` has, and return what refuses a wrong setting, or a `.env` that cannot be read."""
    from mimic_core.errors import SpecError
    from resources.environments import CHECKS

    with suppress(SpecError):
        _take_env_file()
    return (_take_env_file, *CHECKS, _require_folders)


def _take_env_file() -> None:
    from resources.environments import OPTIONAL

    for name, value in env_file(interpolate=True).items():
        if name in ("MIMIC_HOME", "DAGSTER_HOME", *OPTIONAL) and value:
            os.environ.setdefault(name, value)


def _require_folders() -> None:
    from mimic_core.errors import SpecError
    from resources.environments import mimic_home

    if (temporary := os.environ.get("TMPDIR")) and not Path(temporary).is_dir():  # Python would take another one
        raise SpecError(f"TMPDIR is {temporary}, and there is no such folder; make it, or unset TMPDIR")
    home = mimic_home()
    if set("#?%") & set(str(home)):
        raise SpecError(f"MIMIC_HOME is {home}, which has one of # ? % in it; give a folder without them")


def _chosen() -> dict[str, str]:
    from resources.environments import OPTIONAL, mimic_home, spec_folder

    home = mimic_home()
    dagster_home = dagster_home_of(home)
    chosen = {"MIMIC_HOME": str(home), "DAGSTER_HOME": str(dagster_home)}
    chosen |= {name: value for name in OPTIONAL if (value := os.environ.get(name))}
    if "MIMIC_SPECS" in chosen:
        chosen["MIMIC_SPECS"] = str(spec_folder(home))  # as it is seen from here
    os.environ.update(chosen)
    return chosen


def dagster_home_of(home: Path) -> Path:
    """Return the root of Dagster's files: DAGSTER_HOME, or `dagster` below `home`."""
    return Path(os.environ.get("DAGSTER_HOME") or home / "dagster").absolute()


def prepare() -> dict[str, str]:
    """Decide and set what `settings` does, and make the homes; in a cluster they are there.

    Raises:
        NotFoundError: in a cluster, Dagster's settings are not here.
        SpecError: a home cannot be made.
    """
    from mimic_core.errors import NotFoundError, SpecError
    from resources.environments import in_cluster

    chosen = settings()
    home, dagster_home = Path(chosen["MIMIC_HOME"]), Path(chosen["DAGSTER_HOME"])
    config = dagster_home / "dagster.yaml"
    if in_cluster():  # the folder cannot be written, and the settings of one machine would be those of another instance
        if not config.exists():
            raise NotFoundError(
                f"{config}: there is none, so nothing here knows Dagster's database; run commands in the pod that "
                "deploy/helm/README.md describes"
            )
        return chosen
    try:
        home.mkdir(parents=True, exist_ok=True)
        dagster_home.mkdir(parents=True, exist_ok=True)
        if not config.exists() or hashlib.sha256(config.read_bytes()).hexdigest() in SHIPPED_BEFORE:
            new = config.with_name(".dagster.yaml.new")
            new.write_bytes(files("mimic_assets.cli").joinpath("dagster.yaml").read_bytes())
            new.replace(config)
    except OSError as error:
        raise SpecError(
            f"{error.filename}: cannot be made: {error.strerror}; "
            "set MIMIC_HOME and DAGSTER_HOME to folders that you may write"
        ) from error
    return chosen


def missing_home() -> str:
    """Say that there is no home yet, and where, for a command that only looks; empty where there is one. Nothing is made."""
    chosen = settings()
    if "MIMIC_CATALOG" in chosen or Path(chosen["MIMIC_HOME"]).exists():  # tables may be in a catalog that lies elsewhere
        return ""
    return (
        f"no home at {chosen['MIMIC_HOME']} yet; import a table with `mimic tables import DATABASE.TABLE FILE`, or go where "
        "your home is, or set MIMIC_HOME"
    )


def require_home() -> None:
    """Check that there is a home, for a command that cannot do anything without.

    Raises:
        NotFoundError: there is none.
    """
    from mimic_core.errors import NotFoundError

    if missing := missing_home():
        raise NotFoundError(missing)


def resources_to_read() -> dict[str, Any]:
    """Return the resources of this machine for a command that only reads, and makes no homes.

    Raises:
        NotFoundError: there is no home.
    """
    from resources import environments

    require_home()
    return environments.environment_resources(Path(settings()["MIMIC_HOME"]))


def local_resources() -> dict[str, Any]:
    """Return the resources of this environment."""
    from resources import environments

    return environments.environment_resources(Path(prepare()["MIMIC_HOME"]))


def open_instance() -> "dg.DagsterInstance":
    """Open the Dagster instance under DAGSTER_HOME; one of an earlier version gets the present keys."""
    import dagster as dg

    from mimic_assets.short_keys import shorten_keys
    from resources.environments import in_cluster

    home = Path(prepare()["DAGSTER_HOME"])
    with ExitStack() as stack:
        if not in_cluster():  # there the folder cannot be written, and a migration has made the tables
            lock = stack.enter_context((home / ".opening").open("w"))  # the first to open it makes its tables
            fcntl.flock(lock, fcntl.LOCK_EX)
        instance = dg.DagsterInstance.get()
        shorten_keys(instance, resources_to_read()["specs"])
        return instance


@click.command()
@click.option("--write", is_flag=True, help="Store the variables in .env, which dagster and mimic read.")
def env(write: bool) -> None:
    """Print what plain dagster commands need.

    A password in MIMIC_CATALOG and the URL of MIMIC_ALERT_WEBHOOK are hidden on a terminal, and given to a shell that
    evaluates the output.

    \b
    Examples:
      eval "$(mimic env)"
      mimic env --write
    """
    from dotenv import set_key

    for name, value in prepare().items():
        if write:
            set_key(".env", name, value, quote_mode="auto")
        click.echo(_export(name, value))
    if write:
        click.echo("stored in .env; dagster and mimic commands in this folder now use it", err=True)


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), default=3000, show_default=True, help="Port of the UI.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; there is no login.")
@click.option("--rebuild", is_flag=True, help="Rebuild what is out of date by itself; else only if that is on in the UI.")
@click.option("--read-only", is_flag=True, help="The pages change nothing; commands, files and sensors still build.")
def dev(port: int, host: str, rebuild: bool, read_only: bool) -> None:
    """Start the Dagster UI and daemon.

    Both serve this code location, on one port, until Ctrl-C.

    \b
    Examples:
      mimic dev --port 3000
      mimic dev --rebuild
      mimic dev --read-only
    """
    _require_one_machine()
    prepare()
    if rebuild:
        os.environ["MIMIC_REBUILD"] = "1"
    if read_only:
        os.environ["DAGSTER_WEBSERVER_READ_ONLY"] = "1"  # `dagster dev` has no such option, and its webserver reads this
    _share_cores()
    _require_free(host, port)
    from mimic_assets.cli.ended import end_dead_runs

    with open_instance() as instance:  # they would hold their places in the queue of runs
        end_dead_runs(instance, local_resources(), orphaned=True)
    click.echo(f"Dagster UI: http://{host}:{port} (ready in some seconds; Ctrl-C stops it)", err=True)
    sys.stderr.flush()
    for number in (signal.SIGINT, signal.SIGTERM):  # a script that starts this in the background had them ignored
        signal.signal(number, signal.SIG_DFL)
    quiet = ["-W", "ignore:Function `dev_command` is superseded"]  # its successor wants a project of another layout
    # at level info every tick of a sensor would print two lines
    command = ["dagster", "dev", "-m", "mimic_assets.definitions", "-h", host, "-p", str(port), "--log-level", "warning"]
    os.execv(sys.executable, [sys.executable, *quiet, "-m", *command])  # noqa: S606  our own interpreter


def _require_one_machine() -> None:
    from mimic_core.errors import SpecError
    from resources.environments import in_cluster

    settings()
    if in_cluster():
        raise SpecError(
            "MIMIC_ENV is 'kubernetes', where Dagster's UI and daemon are Deployments of their own; a second daemon on "
            "their database would answer everything twice. Look at theirs, or unset MIMIC_ENV to work on this machine alone"
        )


def _share_cores() -> None:
    """Bound the threads of each build's linear algebra, as several builds run at once; what a person has set stays."""
    from mimic_core.rebuilds import Policy

    each = max(1, (os.cpu_count() or 1) // Policy.max_in_flight)
    for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):  # of NumPy and SciPy
        os.environ.setdefault(name, "1")
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", str(each))


def _require_free(host: str, port: int) -> None:
    import socket

    from mimic_core.errors import SpecError

    try:
        with socket.create_server((host, port)):
            pass
    except OSError as error:
        raise SpecError(
            f"port {port} of {host} cannot be used: {os.strerror(error.errno or 0)}; end what runs there, "
            "or give another --port"
        ) from error


def _export(name: str, value: str) -> str:
    import shlex

    if name == "MIMIC_ALERT_WEBHOOK" and sys.stdout.isatty():
        return f"# {name} is set; eval exports it"
    if name == "MIMIC_CATALOG":
        from resources.catalogs import parse_url, without_password

        url = parse_url(value)
        if without_password(url) != url.render_as_string(hide_password=False) and sys.stdout.isatty():
            return f"# {name} is {without_password(url)}; eval exports it with its password"
    return f"export {name}={shlex.quote(value)}"
