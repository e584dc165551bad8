"""The machine itself: settings, the home and its disk, and installed versions; nothing here needs a network."""

import platform
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, distributions, metadata, requires, version
from pathlib import Path

from mimic_core.errors import MimicError
from resources.doctor.findings import Finding, ok, refusal, skipped, warning, wrong

GIB = 2**30
LITTLE, TOO_LITTLE = GIB, GIB // 10  # bytes that are free on a disk
SHOWN = ("dagster", "dagster-aws", "dagster-k8s", "pyarrow", "pyiceberg", "tensorflow")
INSTALL = "install what requirements.lock pins (`make .venv`), or take the image of this version"


def settings(checks: Sequence[Callable[[], object]], names: Iterable[str], unknown: Mapping[str, str]) -> Iterator[Finding]:
    """Look whether every setting can be used.

    Args:
        checks: each of which refuses a wrong setting.
        names: of the settings that are set; values may be secret.
        unknown: names that look like those of settings, but are none -> a hint.
    """
    refused = False
    for name, hint in unknown.items():
        yield warning("settings", f"{name} is set, which is no setting{hint}", "mend its name, or take it out")
    for check in checks:
        try:
            check()
        except MimicError as error:
            refused = True
            yield refusal("settings", error)
    if not refused:
        found = ", ".join(sorted(names))
        yield ok("settings", f"can be used; set: {found}" if found else "none is set, so the defaults hold")


def home(folder: Path, *, shared: bool) -> Iterator[Finding]:
    """Look whether the home is there and can be written.

    Args:
        shared: whether it is on the volume of a cluster, which is made by others.
    """
    if not folder.exists():
        if shared:
            yield wrong("home", f"there is no {folder}", "see that the volume is mounted there, or mend MIMIC_HOME")
            return
        place = next(each for each in folder.parents if each.exists())
        found = skipped("home", f"no home at {folder} yet", "import a table, or go where your home is, or set MIMIC_HOME")
    else:
        place, found = folder, ok("home", f"{folder} can be written")
    if problem := unwritable(place):
        failed = "written" if place == folder else "made"
        yield wrong("home", f"{folder}: cannot be {failed}: {problem}", "set MIMIC_HOME to a folder that you may write")
    else:
        yield found
        yield from free_space("disk", place)


def temporary(folder: Path, cache: Path | None) -> Iterator[Finding]:
    """Look whether there is room for temporary files, and for the local copies of what is in S3.

    Args:
        cache: where these copies are; None where they are among the temporary files.
    """
    for name, each in (("TMPDIR", folder), ("MIMIC_CACHE", cache)):
        if each is None:
            continue
        place = next(path for path in (each, *each.absolute().parents) if path.exists())  # the cache is made when it is used
        if problem := unwritable(place):
            yield wrong(name, f"{place}: cannot be written: {problem}", f"let {name} name a folder that you may write")
        else:
            yield from free_space(name, place)


def free_space(about: str, folder: Path) -> Iterator[Finding]:
    """Look how much room a disk has."""
    free = shutil.disk_usage(folder).free
    found = f"{free / GIB:,.1f} GiB are free at {folder}"
    do = f"make room there, such as by `mimic gc` and `mimic tables maintain`, or name another folder than {folder}"
    if free < LITTLE:
        yield wrong(about, found, do) if free < TOO_LITTLE else warning(about, found, do)
    else:
        yield ok(about, found)


def versions() -> Iterator[Finding]:
    """Look whether what is installed is what mimic asks for, and whether the parts of Dagster fit each other."""
    problems = list(_misfits())
    for name, expected, found in problems:
        yield wrong("versions", f"{name} {found or 'is not installed'}, expected {expected}", INSTALL)
    if not problems:
        shown = [f"{name} {_version(name)}" for name in ("mimic", *SHOWN)]
        yield ok("versions", f"{', '.join(shown)}, Python {platform.python_version()}")


def misfits(
    wanted: Iterable[str], installed: Callable[[str], str | None], names: Callable[[str], bool] = bool
) -> Iterator[tuple[str, str, str | None]]:
    """Stream the requirements that are not met: a name, what is expected, and the version that is installed, if one is.

    >>> list(misfits(["dagster<1.14,>=1.13", "polars; extra == 'dev'"], {"dagster": "1.12.3"}.get))
    [('dagster', '<1.14,>=1.13', '1.12.3')]
    """
    from packaging.requirements import Requirement

    for requirement in map(Requirement, wanted):
        if not names(requirement.name) or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        found = installed(requirement.name)
        if found is None or not requirement.specifier.contains(found, prereleases=True):
            yield requirement.name, str(requirement.specifier) or "any version", found


def _misfits() -> Iterator[tuple[str, str, str | None]]:
    python = metadata("mimic")["Requires-Python"]
    yield from misfits([f"python{python}"], lambda _: platform.python_version())
    yield from misfits(requires("mimic") or (), _version)
    # an upgrade of only some of Dagster's parts shows nowhere else before something fails
    for each in distributions():
        if each.name.startswith("dagster-"):
            yield from misfits(each.requires or (), _version, lambda name: name.startswith("dagster"))


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def unwritable(folder: Path) -> str:
    """Return why nothing can be written in a folder; empty where it can. What is written has no name, and leaves nothing."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"mimic")
            file.flush()
    except OSError as error:
        return error.strerror or str(error)
    return ""
