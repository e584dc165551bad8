"""The images: their locks hold what mimic needs and nothing else, and any builder of Dockerfiles can make them."""

import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.markers import Marker, default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "deploy" / "images"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = {"cpu": {"deploy"}, "gpu": {"deploy", "gpu"}}
KNOWN = {"ARG", "FROM", "RUN", "COPY", "ENV", "LABEL", "WORKDIR", "EXPOSE", "ENTRYPOINT", "CMD", "USER"}
ENTRY = re.compile(r"^(?P<name>[a-z0-9][a-z0-9._-]*)==(?P<version>\S+)(?: ; (?P<marker>.+?))?(?P<hashes>(?: --hash=\S+)+)$")
NETWORK = re.compile(r"https?:|index-url|find-links|trusted-host| @ ")
IN_IMAGES = default_environment() | {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64"}


def logical_lines(path: Path) -> list[str]:
    """Return the lines of a file as its readers take them: continued ones joined, comments and empty ones left out."""
    kept = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(kept).replace("\\\n", " ")
    return [" ".join(line.split()) for line in joined.splitlines() if line.strip()]


def entries(path: Path) -> list[re.Match]:
    """Return what a lock pins, by its lines."""
    found = [ENTRY.match(line) for line in logical_lines(path)]
    assert None not in found
    return found


def pins(path: Path) -> dict[str, set[str]]:
    """Return of each package of a lock what is said of it: its versions, for which systems, and the hashes of its files."""
    said: dict[str, set[str]] = {}
    for entry in entries(path):
        said.setdefault(entry["name"], set()).add(entry.group())
    return said


def versions_in_images(path: Path) -> dict[str, str]:
    """Return the version of every package that a lock installs into an image."""
    here = [entry for entry in entries(path) if not entry["marker"] or Marker(entry["marker"]).evaluate(IN_IMAGES)]
    assert len({entry["name"] for entry in here}) == len(here)
    return {entry["name"]: entry["version"] for entry in here}


def needs(name: str, extras: set[str]) -> list[Requirement]:
    """Return what a package with some extras needs in an image, by pyproject.toml or by what is installed here."""
    if name == "mimic":
        texts = [*PROJECT["dependencies"], *(text for extra in extras for text in PROJECT["optional-dependencies"][extra])]
    else:
        try:
            texts = requires(name) or []
        except PackageNotFoundError:  # NVIDIA's, which need each other only
            texts = []
    found = [Requirement(text) for text in texts]
    return [
        each
        for each in found
        if not each.marker or any(each.marker.evaluate(IN_IMAGES | {"extra": e}) for e in extras | {""})
    ]


def all_needs(extras: set[str]) -> list[Requirement]:
    """Return every requirement that mimic with some extras has, directly or by what it requires."""
    seen, found, left = set(), [], [("mimic", frozenset(extras))]
    while left:
        name, asked = left.pop()
        if (name, asked) not in seen:
            seen.add((name, asked))
            new = needs(name, set(asked))
            found += new
            left += [(canonicalize_name(each.name), frozenset(each.extras)) for each in new]
    return [each for each in found if each.name != "mimic"]


def instructions() -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile with their arguments."""
    return [(line.partition(" ")[0], line.partition(" ")[2]) for line in logical_lines(IMAGES / "Dockerfile")]


def stages() -> dict[str, list[tuple[str, str]]]:
    """Return the instructions of every stage, after those of the stage that it is made from."""
    found: dict[str, list[tuple[str, str]]] = {}
    name = ""
    for word, rest in instructions():
        if word == "FROM":
            source, _, name = rest.partition(" AS ")
            found[name] = list(found.get(source, []))
        elif name:
            found[name].append((word, rest))
    return found


def copied() -> set[str]:
    """Return what the Dockerfile takes from the folder of the build."""
    sources = [rest.split()[:-1] for word, rest in instructions() if word == "COPY" and "--from=" not in rest]
    return {source for line in sources for source in line}


def links() -> Iterator[tuple[Path, Path]]:
    """Give the links among the files that are copied, each with what it leads to, from the root of the repository."""
    for path in (path for source in copied() for path in (ROOT / source).rglob("*")):
        if path.is_symlink():
            yield path.relative_to(ROOT), path.resolve().relative_to(ROOT)


@pytest.mark.parametrize("target", EXTRAS)
def test_an_image_has_the_versions_and_files_that_the_tests_passed_with(target):
    tested, held = pins(ROOT / "requirements.lock"), pins(IMAGES / f"{target}.lock")
    assert [name for name in held if held[name] != tested.get(name, held[name])] == []
    assert all(name.startswith("nvidia-") for name in held.keys() - tested.keys())


@pytest.mark.parametrize("target", EXTRAS)
def test_the_lock_of_an_image_holds_what_mimic_needs_there_and_nothing_else(target):
    held, wanted = versions_in_images(IMAGES / f"{target}.lock"), all_needs(EXTRAS[target])
    assert {canonicalize_name(each.name) for each in wanted} == set(held)
    wrong = [each for each in wanted if not each.specifier.contains(held[canonicalize_name(each.name)], prereleases=True)]
    assert wrong == []


def test_the_lock_of_the_image_with_a_gpu_is_the_other_one_and_nvidias_libraries():
    cpu, gpu = pins(IMAGES / "cpu.lock"), pins(IMAGES / "gpu.lock")
    assert cpu.items() <= gpu.items()
    assert {name.partition("-")[0] for name in gpu.keys() - cpu.keys()} == {"nvidia"}
    assert not any(name.startswith("nvidia-") for name in cpu)


@pytest.mark.parametrize("target", EXTRAS)
def test_the_lock_of_an_image_names_no_registry(target):
    assert [line for line in logical_lines(IMAGES / f"{target}.lock") if NETWORK.search(line)] == []


def test_the_dockerfile_has_what_every_builder_knows_and_fetches_nothing_by_itself():
    assert {word for word, _ in instructions()} <= KNOWN  # no ADD
    flags = {flag for word, rest in instructions() for flag in re.findall(r"^(--[a-z]+)", rest)}
    assert flags == {"--from"}
    assert not any("<<" in rest for _, rest in instructions())
    assert not (IMAGES / "Dockerfile").read_text(encoding="utf-8").startswith("# syntax")


def test_every_stage_of_the_dockerfile_is_made_from_the_base_image_or_from_a_stage_before_it():
    known = {"${BASE_IMAGE}"}
    for word, rest in instructions():
        if word == "FROM":
            source, _, name = rest.partition(" AS ")
            assert source in known
            known.add(name)
        elif word == "COPY" and rest.startswith("--from="):
            assert rest.removeprefix("--from=").partition(" ")[0] in known


def test_the_base_image_has_a_tag_that_says_its_version():
    (base,) = (rest.partition("=")[2] for word, rest in instructions() if word == "ARG" and rest.startswith("BASE_IMAGE"))
    name, _, tag = base.partition(":")
    assert "/" not in name
    assert re.match(r"3\.\d+-", tag)


@pytest.mark.parametrize("target", EXTRAS)
def test_an_image_runs_as_a_user_who_is_not_root_and_is_given_by_number(target):
    # with a name Kubernetes cannot tell whether it is root
    last = [rest for word, rest in stages()[target] if word == "USER"][-1]
    assert last == "10001:10001"


@pytest.mark.parametrize("target", EXTRAS)
def test_no_argument_with_an_address_reaches_the_layers_of_an_image(target):
    assert [rest for word, rest in stages()[target] if word in {"ARG", "ENV"} and "PIP_" in rest] == []


@pytest.mark.parametrize("target", EXTRAS)
def test_an_image_is_labelled_with_the_version_of_the_project(target):
    (label,) = (rest for word, rest in stages()[target] if word == "LABEL")
    assert f'org.opencontainers.image.version="{PROJECT["version"]}"' in label


@pytest.mark.parametrize("target", EXTRAS)
def test_what_is_written_beside_the_homes_goes_below_tmp(target):
    settings = dict(pair.split("=", 1) for word, rest in stages()[target] if word == "ENV" for pair in rest.split())
    assert settings["MIMIC_HOME"] == "/mimic"
    assert settings["DAGSTER_HOME"] == "/opt/dagster/dagster_home"
    assert all(settings[name].startswith("/tmp") for name in ("HOME", "MPLCONFIGDIR", "KERAS_HOME", "XDG_CACHE_HOME"))  # noqa: S108
    assert "MIMIC_ENV" not in settings


def test_the_builder_gets_what_the_dockerfile_copies_and_nothing_else():
    first, *rest = logical_lines(ROOT / ".dockerignore")
    let_in = {line.removeprefix("!") for line in rest if line.startswith("!")}
    assert first == "*"
    assert let_in == copied()
    assert [line for line in rest if not line.startswith("!")] == ["**/__pycache__"]


def test_links_among_the_copied_files_lead_to_copied_files():
    # a wheel is made without a word where a link leads nowhere, and the code location does not load without these files
    leading = {str(path): target for path, target in links()}
    assert "mimic_assets/cli/dagster.yaml" in leading
    assert [path for path, target in leading.items() if not any(target.is_relative_to(source) for source in copied())] == []
