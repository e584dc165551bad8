"""The inventory: what is registered, published and in the tables now, as the planner takes it; read through the index.

What cannot be read as a whole, such as the catalog or the folder of specs, is an error: never an empty answer.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import dagster as dg

from mimic_core.errors import CorruptFileError, MimicError
from mimic_core.profiles import profile_version, what_breaks
from mimic_core.specs import PARTITION_SPECS, PartitionSpec, ReportSpec
from mimic_core.world import CONTRAST, Node, Registered, TableState, World, registered
from mimic_core.world import SOURCE as SOURCE_TABLE
from resources import external
from resources.artefacts import MANIFEST, ArtefactStore
from resources.index import PASSING, Facts, Index
from resources.plain_tables import PLAIN
from resources.profiles import FOLDER as PROFILES
from resources.profiles import profile_path, read_profile
from resources.specs import SpecStore
from resources.storage import Status
from resources.tables import SOURCE, Pin, TableStore

# of a manifest; the rest, above all the contract's outcome and the notes, is for people
KEPT = {"version", "fingerprint", "spec", "spec_digest", "code_version", "inputs", "counts", "metrics", "built_at"}
KEPT |= {"seconds", "snapshot", "table", "dagster_run_id"}

Look = Callable[[str], Status | None]


class Inventory(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Everything that the planner must know, but the runs."""

    specs: SpecStore
    tables: TableStore
    artefacts: ArtefactStore
    index: Index

    def world(self) -> World:
        """Return what there is now.

        Raises:
            StorageError: the catalog, or a folder of the object storage, cannot be read.
        """
        locations = self.tables.locations()
        wanted = gather_registered(self.specs, self.index)
        manifests = gather_manifests(self.artefacts, locations, wanted, self.index)
        sources = gather_sources(self.tables, _followed(locations, wanted), self.index)
        return World(
            sources=sources,
            registered=wanted,
            manifests=manifests,
            contrasts=gather_contrasts(self.tables, locations, manifests, self.index),
            broken=gather_broken(self.artefacts, _unused(sources, manifests), self.index),
        )

    def reports(self, experiments: Sequence[str]) -> dict[Node, Facts]:
        """Return the manifests of the reports that were made on some experiments, with what is `gone` of their files.

        Raises:
            StorageError: a folder cannot be read.
        """
        specs = [ReportSpec.of(key) for key in experiments]
        wanted = {Node(spec.asset, spec.key): spec.folder for spec in specs}
        return _manifests_in(self.artefacts, {}, wanted, self.index, "reports")

    def near(self, node: Node) -> World:
        """Return a world of one registered partition and what it reads directly, without looking at the others.

        Raises:
            NotFoundError: it is not registered.
            StorageError: the catalog cannot be read.
        """
        wants = self._registered(node)
        read = [wants.upstream, Node(CONTRAST, wants.table) if wants.table else None]
        wanted = {node: wants} | {up: self._registered(up) for up in read if up and self.specs.has(*up)}
        locations = self.tables.locations()
        manifests = gather_manifests(self.artefacts, locations, wanted, None)
        sources = {name: location for name, location in locations.items() if name == wants.table}
        return World(
            sources=gather_sources(self.tables, sources, None),
            registered=wanted,
            manifests=manifests,
            contrasts=gather_contrasts(self.tables, locations, manifests, None),
        )

    def sources(self) -> dict[str, TableState]:
        """Return what the source tables hold now; one that cannot be read says why.

        Raises:
            StorageError: the catalog, or the folder of specs, cannot be read.
        """
        followed = _followed(self.tables.locations(), gather_registered(self.specs, self.index))
        return gather_sources(self.tables, followed, self.index)

    def _registered(self, node: Node) -> Registered:
        (kind,) = [kind for kind in PARTITION_SPECS if kind.asset == node.asset]
        return _registered(node, _spec(self.specs, kind, node.key), 0.0)


def gather_registered(specs: SpecStore, index: Index) -> dict[Node, Registered]:
    """Return what the registered specs say; one that cannot be read says why.

    Raises:
        StorageError: the folder of specs cannot be read.
    """
    found = {}
    for kind in PARTITION_SPECS:
        newest = specs.newest(kind.asset)
        stamps = {key: f"{name} {changed_at}" for key, (name, changed_at) in newest.items()}
        facts = index.facts(kind.asset, stamps, partial(_or_error, _spec, specs, kind))
        for key, said in facts.items():
            node = Node(kind.asset, key)
            found[node] = _registered(node, said, newest[key][1])
    return found


def gather_manifests(
    artefacts: ArtefactStore, tables: Mapping[str, str], wanted: Mapping[Node, Registered], index: Index | None
) -> dict[Node, Facts]:
    """Return what is published, with what is `gone` of the files and tables that a manifest names.

    Args:
        tables: the tables that there are, as `TableStore.locations` gives them.
        wanted: the partitions to look for.
        index: of all partitions; None reads anew, for some of them.

    Raises:
        StorageError: a folder cannot be read.
    """
    folders = {node: said.folder for node, said in wanted.items() if said.folder}
    return _manifests_in(artefacts, tables, folders, index, "manifests")


def _manifests_in(
    artefacts: ArtefactStore, tables: Mapping[str, str], folders: Mapping[Node, str], index: Index | None, kind: str
) -> dict[Node, Facts]:
    # of all partitions those of a space are listed together
    look = artefacts.storage.statuses(sorted({folder.split("/")[0] if index else folder for folder in folders.values()}))
    stamps, nodes = {}, {}
    for node, folder in folders.items():
        if status := look(f"{folder}/{MANIFEST}"):
            stamps[folder], nodes[folder] = status.tag, node
    facts = _facts(index, kind, stamps, partial(_or_error, _manifest, artefacts))
    found = {}
    for folder, manifest in facts.items():
        root = f"{folder}/{manifest.get('version')}/"
        gone = [lack for path, size in manifest.get("files", ()) if (lack := _lack(root + path, size, look, artefacts))]
        if (table := manifest.get("table")) and table not in tables:
            gone.append(f"table {table} is gone")
        found[nodes[folder]] = {**manifest, "gone": gone} if gone else manifest
    return found


def gather_sources(tables: TableStore, locations: Mapping[str, str], index: Index | None) -> dict[str, TableState]:
    """Return what the imported and registered tables hold; one that cannot be read says why.

    Args:
        locations: as `TableStore.locations` gives them.
    """
    facts = _facts(index, "tables", locations, partial(_or_error, _table, tables))
    sources = {name: said for name, said in facts.items() if said.get("kind") in (SOURCE, None)}
    listings = {name: _or_error(_listing, said["location"], name) for name, said in sources.items() if "location" in said}
    stamps = {name: said["stamp"] for name, said in listings.items() if "error" not in said}
    files = _facts(index, "external tables", stamps, lambda name: _or_error(_external, tables, name, stamps[name]))
    return {name: _state(files.get(name) or listings.get(name) or said) for name, said in sources.items()}


def gather_contrasts(
    tables: TableStore, locations: Mapping[str, str], manifests: Mapping[Node, Facts], index: Index | None
) -> dict[str, TableState]:
    """Return what the tables of the published contrast sets hold in the versions that the manifests name.

    Args:
        locations: as `TableStore.locations` gives them.
    """
    published = {node.key: facts for node, facts in manifests.items() if node.asset == CONTRAST and not facts.get("error")}
    stamps = {key: f"{facts['version']} {locations.get(key)}" for key, facts in published.items()}

    def read(key: str) -> Facts:
        return _or_error(lambda: _pinned(tables, tables.pin(key, published[key]["snapshot"])))

    return {key: _state(said) for key, said in _facts(index, "contrast tables", stamps, read).items()}


def _followed(locations: Mapping[str, str], wanted: Mapping[Node, Registered]) -> dict[str, str]:
    """Leave out the plain tables of Glue that no spec names: others keep them, and each costs requests to list its files."""
    named = {said.table for said in wanted.values()}
    return {name: location for name, location in locations.items() if name in named or not location.startswith(PLAIN)}


def _unused(sources: Mapping[str, TableState], manifests: Mapping[Node, Facts]) -> dict[str, TableState]:
    """Return the tables of which nothing is built as they are now; other builds left out in a config what breaks a rule."""
    inputs = [manifest.get("inputs", {}).get(SOURCE_TABLE, {}) for manifest in manifests.values()]
    read = {(table.get("name"), table.get("token")) for table in inputs}
    return {name: table for name, table in sources.items() if (name, table.token) not in read}


def gather_broken(artefacts: ArtefactStore, sources: Mapping[str, TableState], index: Index) -> dict[str, str]:
    """Return what keeps people from building of the source tables that were looked into, by their names."""
    versions = {name: profile_version(table) for name, table in sources.items() if not table.error}
    look = artefacts.storage.statuses([PROFILES])
    stamps = {}
    for name, version in versions.items():
        if status := look(profile_path(name, version)):
            stamps[name] = f"{version} {status.tag}"

    def read(name: str) -> Facts:
        document = read_profile(artefacts, name, versions[name])
        return {"broken": what_breaks(document) if document else ""}

    found = index.facts("source profiles", stamps, read)
    return {name: facts["broken"] for name, facts in found.items() if facts["broken"]}


def _facts(index: Index | None, kind: str, stamps: Mapping[str, str], read: Callable[[str], Facts]) -> dict[str, Facts]:
    return {name: read(name) for name in stamps} if index is None else index.facts(kind, stamps, read)


def _or_error(read: Callable[..., Facts], *arguments: Any) -> Facts:
    try:
        return read(*arguments)
    except MimicError as error:
        return {"error": str(error)}


def _spec(specs: SpecStore, kind: type[PartitionSpec], key: str) -> Facts:
    stored = specs.get(kind, key)
    facts = asdict(registered(stored.spec, stored.digest))
    del facts["error"]  # only facts that cannot be read have one
    return facts


def _registered(node: Node, said: Facts, changed_at: float) -> Registered:
    if said.get("error"):
        return Registered(node=node, error=said["error"], changed_at=changed_at)
    upstream, columns = said["upstream"], said["columns"]
    return Registered(
        **said
        | {
            "node": node,
            "upstream": Node(*upstream) if upstream else None,
            "columns": None if columns is None else tuple(columns),
            "changed_at": changed_at,
        }
    )


def _manifest(artefacts: ArtefactStore, folder: str) -> Facts:
    manifest = artefacts.manifest(folder)
    if manifest is None:
        raise CorruptFileError(f"{folder}: its manifest was removed at this moment")
    entries = [*manifest.get("files", ()), *manifest.get("id_tables", ())]
    kept = {name: manifest[name] for name in KEPT if name in manifest}
    return kept | {"spec": json.dumps(kept["spec"]), "files": [[entry["path"], entry["bytes"]] for entry in entries]}


def _table(tables: TableStore, name: str) -> Facts:
    kind = tables.kind(name)
    if kind != SOURCE:
        return {"kind": kind or "dropped"}
    pin = tables.pin(name)
    return {"location": pin.location} if pin.location else _pinned(tables, pin)


def _external(tables: TableStore, name: str, stamp: str) -> Facts:
    pin = tables.pin(name)
    # files that changed since they were listed must not be known by the stamp of those before, which may come back
    return _pinned(tables, pin) | ({} if _stamp_of(pin.location, pin.token) == stamp else {PASSING: True})


def _pinned(tables: TableStore, pin: Pin) -> Facts:
    ids = tables.field_ids(pin)
    columns = {field.name: {"id": ids.get(field.name), "type": str(field.type)} for field in tables.schema_of(pin)}
    return {"token": pin.token, "columns": columns, "rows": pin.rows, "changed_at": tables.changed_at(pin)}


def _listing(location: str, name: str) -> Facts:
    return {"stamp": _stamp_of(location, external.list_files(location, name).token)}


def _stamp_of(location: str, token: str) -> str:
    return f"{location} {token}"


def _state(said: Facts) -> TableState:
    return TableState(**{name: said[name] for name in ("token", "columns", "error", "changed_at", "rows") if name in said})


def _lack(name: str, size: int, look: Look, artefacts: ArtefactStore) -> str | None:
    """Say what is wrong with a file that had so many bytes, without reading it; None when nothing is."""
    status = look(name)
    if status is None:
        return f"{artefacts.where(name)} is gone"
    if status.bytes == size:
        return None
    return f"{artefacts.where(name)} has {status.bytes:,} bytes instead of {size:,}"
