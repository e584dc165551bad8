"""`mimic doctor`: what this machine reaches with its settings, what is wrong, and what to do about it."""

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import unquote, urlsplit

import click

from mimic_assets.cli.environment import checks_of_settings, dagster_home_of
from mimic_assets.cli.output import print_json, print_line
from mimic_assets.cli.plan import AS_JSON
from mimic_assets.cli.servers import OF_SERVERS, SERVER, ServerNamed, name_server, secrets_of_servers
from mimic_core.errors import did_you_mean

if TYPE_CHECKING:
    from resources.doctor.checks import Patient
    from resources.doctor.cloud import Clocks
    from resources.doctor.findings import Finding

T = TypeVar("T")
COLOURS = {"ok": "green", "warning": "yellow", "wrong": "red", "skipped": "bright_black"}
SECRETS = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "DAGSTER_PG_PASSWORD", "MIMIC_ALERT_WEBHOOK")
SHORT = 4  # characters of what is no secret, but would be hidden in other words


@click.command()
@click.option(
    "--url",
    metavar="URL",
    help=f"Look at the webserver at this address too, such as http://127.0.0.1:3000. Default: --server, or {SERVER}.",
)
@AS_JSON
@click.pass_context
def doctor(context: click.Context, url: str | None, as_json: bool) -> None:
    """Look what this machine reaches, and say what to do.

    Settings, versions, disks, who you are in AWS, buckets, the catalog, clocks, Dagster with its daemon, the webserver that
    commands are for, and the cluster, as far as they are used here; a line for each. Nothing is changed: a small object
    below .mimic-doctor is written to each bucket, and removed again. The exit code is 1 if anything is wrong; warnings do
    not count.

    \b
    Examples:
      mimic doctor
      mimic doctor --url http://127.0.0.1:3000
      mimic doctor --json
    """
    from resources.doctor.checks import checks
    from resources.doctor.findings import State, take

    root = context.find_root().params
    patient = _patient(lambda: name_server(root["server"] if url is None else url, root["user"]))
    secrets, found = _secrets(), []
    with _quiet():
        for finding in take(checks(patient)):
            found.append(_without(secrets, finding))
            if not as_json:
                _print(found[-1])
    counted = Counter(finding.state for finding in found)
    if as_json:
        print_json({"findings": [asdict(finding) for finding in found]} | {str(state): counted[state] for state in State})
    else:
        click.echo(_summary(counted[State.WRONG], counted[State.WARNING]))
    context.exit(1 if counted[State.WRONG] else 0)


def _patient(server: Callable[[], ServerNamed | None]) -> "Patient":
    """Gather what holds here; what a wrong setting would say is left out, as that is found wrong itself."""
    import tempfile
    from pathlib import Path

    from resources import environments
    from resources.doctor.checks import Patient
    from resources.doctor.findings import skipped

    def look(clocks: "Clocks") -> "Iterable[Finding]":
        if (named := server()) is None:
            do = f"give --url, such as http://127.0.0.1:3000, or set {SERVER}, to look at one"
            return [skipped("webserver", "none was named", do)]
        from mimic_assets.cli.doctor_server import webserver

        return webserver(named, clocks)

    settings = checks_of_settings()
    known = ("MIMIC_HOME", *environments.OPTIONAL, *OF_SERVERS)
    unknown = [name for name in sorted(os.environ) if name.startswith("MIMIC_") and name not in known]
    home = environments.mimic_home()
    compute = _if_right(environments.step_compute) or {}
    training = compute.get("model_run")
    artefacts = _if_right(lambda: environments.artefact_store(home))
    return Patient(
        settings=settings,
        names=[name for name in ("MIMIC_HOME", "DAGSTER_HOME", *environments.OPTIONAL) if os.environ.get(name)],
        unknown={name: did_you_mean(name, known) for name in unknown},
        variables=frozenset(name for name in os.environ if name.startswith("AWS_") and os.environ[name]),
        home=home,
        dagster_home=dagster_home_of(home),
        temporary=Path(tempfile.gettempdir()),
        cache=Path(artefacts.cache) if artefacts and artefacts.cache else None,
        cluster=os.environ.get(environments.ENVIRONMENT) == environments.KUBERNETES,
        gpus=training is None or training.gpu != 0,
        catalog=os.environ.get(environments.CATALOG) or f"sqlite:///{home / 'catalog.db'}",
        warehouse=_if_right(lambda: environments.warehouse(home)),
        artefacts=artefacts.root if artefacts else None,
        webserver=look,
    )


def _if_right(read: Callable[[], T]) -> T | None:
    """Return a setting; None where it is wrong."""
    from mimic_core.errors import SpecError

    try:
        return read()
    except SpecError:
        return None


def _secrets() -> list[str]:
    """Return the texts that nobody may see; libraries may name them in their errors."""
    found = [os.environ.get(name, "") for name in SECRETS] + (_if_right(secrets_of_servers) or [])
    with suppress(ValueError):
        password = urlsplit(os.environ.get("MIMIC_CATALOG", "")).password or ""
        found += [password, unquote(password)]
    return [each for each in found if len(each) >= SHORT]


def _without(secrets: list[str], finding: "Finding") -> "Finding":
    from dataclasses import replace

    for secret in secrets:
        finding = replace(finding, found=finding.found.replace(secret, "***"), do=finding.do.replace(secret, "***"))
    return finding


@contextmanager
def _quiet() -> Iterator[None]:
    """Have libraries log nothing: what they would say of a server that is away is said by a line."""
    before = logging.root.manager.disable
    logging.disable()
    try:
        yield
    finally:
        logging.disable(before)


def _print(finding: "Finding") -> None:
    colour = COLOURS[finding.state]
    print_line(f"{finding.state:<8} {finding.about}: {finding.found}", colour=colour)
    if finding.do:
        print_line(f"-> {finding.do}", indent=" " * 9)


def _summary(wrong: int, warnings: int) -> str:
    if wrong:
        return f"{wrong} {'thing is' if wrong == 1 else 'things are'} wrong"
    return f"nothing is wrong, with {warnings} warning{'' if warnings == 1 else 's'}" if warnings else "all is well"
