"""The documentation says what the code does: generated pages are fresh, nothing is missing, links work, code runs."""

import importlib.util
import json
import re
from pathlib import Path

import click
import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner

from mimic_assets import catalogue
from mimic_assets.cli.main import main as mimic
from mimic_assets.definitions import defs
from mimic_core import contract, datasets
from mimic_core.configs import parse_spec, read_document
from mimic_core.inferences import choice_probabilities
from mimic_core.manifests import file_entry, seal
from mimic_core.records import encode
from mimic_core.shards import plan_parts
from mimic_core.sources import columns_to_read
from mimic_core.specs import DatasetSpec
from resources.environments import OPTIONAL

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(
    [
        *DOCS.rglob("*.md"),
        *(page for where in ("", "examples/*/", "deploy/", "deploy/*/") for page in ROOT.glob(f"{where}*.md")),
    ]
)
FIRST_TABLE = ROOT / "examples" / "first_table"
HUGE = 2**53 + 1


def load_generator():
    """Load docs/generate.py, which is a script and no package."""
    place = importlib.util.spec_from_file_location("generate_docs", DOCS / "generate.py")
    module = importlib.util.module_from_spec(place)
    place.loader.exec_module(module)
    return module


generator = load_generator()


def commands(command: click.Command, path: str) -> list[str]:
    below = command.commands.items() if isinstance(command, click.Group) else []
    return [path, *(name for short, child in below for name in commands(child, f"{path} {short}"))]


def snippets(page: Path) -> str:
    return "\n".join(re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE))


def anchors(page: Path) -> set[str]:
    """Return the anchors that a page's headings make, as GitHub writes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def tables(page: Path) -> list[list[dict[str, str]]]:
    """Return the tables of a page, each row by the names of its columns."""
    found = re.findall(r"^((?:\|.*\|\n)+)", page.read_text(encoding="utf-8"), re.MULTILINE)
    cells = [
        [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in part.splitlines()] for part in found
    ]
    return [[dict(zip(rows[0], row, strict=True)) for row in rows[2:]] for rows in cells]


def decision_table() -> pa.Table:
    """Two training individuals and one test individual; the choices of the first are listed backwards."""
    return pa.table(
        {
            "_individual": np.array([HUGE, HUGE, HUGE, -1, -1, 0, 0], np.int64),
            "_decision": np.array([0, 0, 0, 5, 5, 0, 0], np.int64),
            "_choice": np.array([3, 2, 1, 0, 7, 0, 1], np.int64),
            "_selected": [False, True, False, False, True, True, False],
            "_train": [True, True, True, True, True, False, False],
            "size": [3.0, 2.0, None, -4.0, -5.0, 6.0, 7.0],
            "age": [30.0, 20.0, 10.0, 40.0, 50.0, 60.0, 70.0],
        }
    )


def write_example_dataset(home: Path) -> None:
    """Build the dataset of examples/first_table from a tiny table with the library alone."""
    spec = parse_spec(DatasetSpec, read_document(FIRST_TABLE / "dataset.json"))
    store = home / "objects" / spec.folder
    folder, table = store / "20260131T174500Z-1a2b3c4d", decision_table()
    columns = columns_to_read(table.schema, spec.features)
    files, block = [], contract.check_block(table.select(columns.names), datasets.rules(spec))
    assert not block.outcome.violations
    (part,) = plan_parts(spec.partitions, None, per_step=max(spec.partitions.values()))
    held = dict(datasets.by_shard(block, part))
    for place, shard in enumerate(part.shards):
        rows = held[place]
        path = folder / datasets.shard_path(shard)
        path.parent.mkdir(parents=True, exist_ok=True)
        data = b"".join(encode(rows, spec.max_choices))
        path.write_bytes(data)
        files.append(file_entry(data, path=datasets.shard_path(shard), split=shard.split, decisions=rows.decisions))
    (folder / "schema.json").write_bytes(seal(datasets.schema_document(spec, files, [])))
    (store / "manifest.json").write_bytes(seal({"version": folder.name, "place": "Zürich"}))


def test_the_generated_pages_are_up_to_date():
    result = CliRunner().invoke(generator.generate, ["--check"])
    assert (result.exit_code, result.output) == (0, "")


def test_a_stale_page_is_named_with_the_command_that_mends_it(tmp_path, monkeypatch):
    monkeypatch.setattr(generator, "DOCS", tmp_path)
    stale = CliRunner().invoke(generator.generate, ["--check"])
    assert stale.exit_code == 1
    assert "docs/specs.md is out of date; run: python docs/generate.py" in stale.output
    assert "docs/cli.md is out of date" in stale.output
    CliRunner().invoke(generator.generate, [])
    assert CliRunner().invoke(generator.generate, ["--check"]).exit_code == 0


def test_the_generated_pages_do_not_depend_on_the_terminal(monkeypatch):
    pages = generator.pages()
    monkeypatch.setenv("COLUMNS", "200")
    assert generator.pages() == pages


@pytest.mark.parametrize("command", commands(mimic, "mimic"))
def test_every_command_is_documented(command):
    assert f"## {command}\n\n```text\nUsage: {command} " in (DOCS / "cli.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", generator.SECTIONS)
def test_every_spec_key_is_documented_with_type_default_example_and_meaning(kind):
    section = (DOCS / "specs.md").read_text(encoding="utf-8").split(f"## {kind.__name__}\n")[1].split("\n## ")[0]
    for name, field in kind.model_fields.items():
        row = next(line for line in section.splitlines() if line.startswith(f"| `{name}` |"))
        _, _, words, default, example, meaning, _ = (cell.strip() for cell in row.split("|"))
        assert words
        assert (default == "required") == field.is_required()
        assert json.loads(example.strip("`")) == field.examples[0]
        assert meaning == field.description


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in generator.SECTIONS for name in kind.model_fields])
def test_the_example_of_every_spec_key_can_be_used_beside_those_of_the_required_keys(kind, name):
    fields = kind.model_fields
    document = {key: field.examples[0] for key, field in fields.items() if field.is_required()}
    document |= {"layers": []} if name == "l2" else {}  # of linear models only
    spec = parse_spec(kind, document | {name: fields[name].examples[0]})
    assert spec.model_dump(mode="json", exclude_unset=True)[name] == fields[name].examples[0]
    assert fields[name].is_required() or fields[name].examples[0] != fields[name].get_default(call_default_factory=True)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), f"{page}: {target}"
        if anchor:
            assert anchor in anchors(file), f"{page}: {target}"


def test_every_asset_check_job_and_sensor_is_explained_on_the_page_of_concepts(tmp_path, monkeypatch):
    monkeypatch.setenv("MIMIC_HOME", str(tmp_path))
    repository = defs().get_repository_def()
    graph = repository.asset_graph
    assets = [key.to_user_string() for key in graph.get_all_asset_keys()]
    checks = [key.name for key in graph.asset_check_keys]
    jobs = [job.name for job in repository.get_all_jobs() if not job.name.startswith(("__", "register_"))]
    sensors = [sensor.name for sensor in repository.sensor_defs]
    explained = set(re.findall(r"`(\w+)`", (DOCS / "concepts.md").read_text(encoding="utf-8")))
    assert {*assets, *checks, *jobs, *sensors} - explained == set()


def test_every_asset_has_a_page_that_says_more():
    assert [page for page in catalogue.PAGES.values() if not (ROOT / page).is_file()] == []


def test_every_setting_is_documented():
    (settings,) = (table for table in tables(DOCS / "operations.md") if "variable" in table[0])
    named = {name for row in settings for name in re.findall(r"[A-Z_]+", row["variable"])}
    assert {"MIMIC_HOME", "DAGSTER_HOME", *OPTIONAL} <= named


def test_every_page_of_the_documentation_is_in_its_index():
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    for page in DOCS.rglob("*.md"):
        assert page.name == "README.md" or f"({page.relative_to(DOCS).as_posix()})" in index


def test_the_python_of_the_format_page_runs(tmp_path, monkeypatch):
    write_example_dataset(tmp_path / ".mimic")
    monkeypatch.chdir(tmp_path)
    plain, ours = snippets(DOCS / "formats.md").split("from mimic_core.splits import")
    names: dict = {}
    exec(plain, names)  # noqa: S102  our own documentation
    decisions = {int(i): j for j, i in enumerate(names["batch"]["individual"])}
    assert sorted(decisions) == [-1, HUGE]
    order = [decisions[HUGE], decisions[-1]]
    assert names["batch"]["n_choices"].numpy()[order].tolist() == [3, 2]
    assert names["batch"]["choices"].numpy()[order].tolist() == [[1, 2, 3], [0, 7, 0]]
    assert names["batch"]["selected"].numpy()[order].tolist() == [1, 1]
    assert names["largest"].numpy()[order].tolist() == [3.0, -4.0]

    exec("import json\nfrom pathlib import Path\nfrom mimic_core.splits import" + ours, names)  # noqa: S102
    assert names["x"].numpy()[order].tolist() == [[[10, -1], [20, 2], [30, 3]], [[40, -4], [50, -5], [0, 0]]]
    assert names["mask"].numpy()[order].tolist() == [[True, True, True], [True, True, False]]


def test_the_numbers_of_the_concepts_page_are_those_of_its_decision_table():
    offered, said = tables(DOCS / "concepts.md")[:2]
    utility = np.array([-0.04 * float(row["time"]) - 0.10 * float(row["cost"]) for row in offered])
    starts = np.flatnonzero([row["_choice"] == "0" for row in offered])
    computed = dict(zip(("probability", "odds", "log_odds"), choice_probabilities(utility, starts), strict=True))
    assert [row["_alternative"] for row in said] == [row["_alternative"] for row in offered]
    for name, column in {"utility": utility, **computed}.items():
        assert [float(row[name.replace("_", "-")]) for row in said] == pytest.approx(column, abs=5e-5), name


def test_the_format_page_names_every_field_of_the_schema():
    spec = parse_spec(DatasetSpec, read_document(FIRST_TABLE / "dataset.json"))
    text = (DOCS / "formats.md").read_text(encoding="utf-8")
    document = datasets.schema_document(spec, [], [])
    for name in [*document, *document["fields"], "format_version", "checksum"]:
        assert f"| `{name}` |" in text
    for name in ("framing", "padding"):
        assert document[name] in text


def pictures_of_the_tests() -> set[str]:
    """Read from the tests in a browser which pictures they make."""
    flows = (ROOT / "tests/browser/test_flows_in_the_browser.py").read_text(encoding="utf-8")
    return {f"tour/{name}.png" for name in re.findall(r'picture(?:\(|=)"([a-z-]+)"', flows)}


def test_the_pictures_of_the_tour_are_those_that_the_tests_in_a_browser_make():
    assert {path.relative_to(DOCS).as_posix() for path in (DOCS / "tour").iterdir()} == pictures_of_the_tests()


def test_the_tour_shows_every_picture():
    tour = (DOCS / "tour.md").read_text(encoding="utf-8")
    assert set(re.findall(r"!\[[^\]]+\]\((tour/[^)]+)\)", tour)) == pictures_of_the_tests()
