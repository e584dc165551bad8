"""The spec store: every registered spec under its partition key, with its history.

A spec is one sealed file per version, `specs/<asset>/<key>/000001.json`; a version is put if absent and never changed.
"""

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import Generic, TypeVar

import dagster as dg

from mimic_core.configs import parse_spec
from mimic_core.errors import ConflictError, NotFoundError, SpecError
from mimic_core.manifests import seal, unseal
from mimic_core.specs import InferenceSpec, PartitionSpec, RunSpec, spec_digest
from resources.artefacts import ArtefactStore
from resources.storage import File

VERSION = re.compile(r"[0-9]{6,}\.json")
P = TypeVar("P", bound=PartitionSpec)


@dataclass(frozen=True, kw_only=True)
class StoredSpec(Generic[P]):
    """A registered spec: the spec, the layers file that belongs to it (or an empty text), and its version."""

    spec: P
    layers: str
    digest: str


class SpecStore(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Specs by asset and partition key."""

    artefacts: ArtefactStore

    def register(self, spec: P, layers: str = "") -> StoredSpec[P]:
        """Store a spec under its key; the same spec again changes nothing, a changed one becomes a new version.

        Raises:
            SpecError: an inference of this key reads another source table, or the key is that of another run.
        """
        stored = StoredSpec(spec=spec, layers=layers, digest=spec_digest(spec.document, layers))
        while True:
            versions = self._versions(spec.asset, spec.key)
            if versions:
                latest = self.get(type(spec), spec.key)
                if (latest.spec.document, latest.layers) == (spec.document, layers):
                    return latest
                _require_same(latest.spec, spec)
            number = int(versions[-1].removesuffix(".json")) + 1 if versions else 1
            document = {"asset": spec.asset, "key": spec.key, "spec": spec.document, "layers": layers}
            try:
                self.artefacts.create(f"{_folder(spec.asset, spec.key)}/{number:06d}.json", seal(document))
            except ConflictError:
                continue  # somebody registered at the same moment: compare with theirs
            return stored

    def require_free(self, spec: PartitionSpec) -> None:
        """Check that a spec can have its key.

        Raises:
            SpecError: an inference of this key reads another source table, or the key is that of another run.
        """
        if self._versions(spec.asset, spec.key):
            _require_same(self.get(type(spec), spec.key).spec, spec)

    def get(self, kind: type[P], key: str) -> StoredSpec[P]:
        """Return the newest version of a spec.

        Raises:
            NotFoundError: no spec is registered under this key.
        """
        versions = self._versions(kind.asset, key)
        if not versions:
            raise NotFoundError(
                f"no spec of {kind.asset} is registered under {key!r}; register one with {_command(kind.asset)} "
                "(`mimic status` lists what is registered, and changes the keys of runs that an earlier version stored)"
            )
        name = f"{_folder(kind.asset, key)}/{versions[-1]}"
        where = self.artefacts.where(name)
        document = unseal(self.artefacts.read(name), where)
        spec = parse_spec(kind, document["spec"], where)
        digest = spec_digest(spec.document, document["layers"])
        return StoredSpec(spec=spec, layers=document["layers"], digest=digest)

    def has(self, asset: str, key: str) -> bool:
        """Tell whether a spec is registered under a key."""
        return bool(self._versions(asset, key))

    def registered(self, asset: str) -> list[str]:
        """List the keys under which specs of an asset are registered, sorted."""
        return sorted(self.newest(asset))

    def newest(self, asset: str) -> dict[str, tuple[str, float]]:
        """Return key -> name of the newest version's file, and when it was registered, in seconds since 1970.

        Raises:
            StorageError: a folder cannot be read.
        """
        newest = {key: files[-1] for key, files in self.versions(asset).items()}
        found = {key: (file.name.rpartition("/")[2], file.status) for key, file in newest.items()}
        return {key: (name, status.changed) for key, (name, status) in found.items() if status is not None}

    def versions(self, asset: str) -> dict[str, list[File]]:
        """Return key -> the files of its versions, the newest last, of all keys in one pass: there may be very many.

        Raises:
            StorageError: a folder cannot be read.
        """
        root, found = f"specs/{asset}/", defaultdict(list)
        for file in self.artefacts.storage.files(root.rstrip("/")):
            folder, _, version = file.name.rpartition("/")
            if VERSION.fullmatch(version):
                found[folder.removeprefix(root)].append(file)
        return {key: sorted(files, key=lambda file: file.name) for key, files in found.items()}

    def remove(self, asset: str, key: str) -> None:
        """Remove all versions of a spec, the newest last: until then it is registered as it was."""
        for name in self._versions(asset, key):
            self.artefacts.remove(f"{_folder(asset, key)}/{name}")

    def rename(self, asset: str, key: str, new: str) -> None:
        """Store all versions of a spec under another key; nothing is done where none is stored, or the other key has some.

        Raises:
            StorageError: the folder cannot be renamed.
        """
        if self.has(asset, key) and not self.has(asset, new):
            self.artefacts.storage.rename(_folder(asset, key), _folder(asset, new))

    def _versions(self, asset: str, key: str) -> list[str]:
        return [name for name in self.artefacts.names(_folder(asset, key)) if name.endswith(".json")]


def _folder(asset: str, key: str) -> str:
    return f"specs/{asset}/{key}"


def _command(asset: str) -> str:
    commands = {
        "contrast_set": "build-contrast",
        "tfrecord_dataset": "build-dataset",
        "model_run": "run-experiment",
        "inference_table": "run-batch-infer",
    }
    return f"`mimic log-odds {commands[asset]} CONFIG --register-only`"


def _require_same(before: PartitionSpec, spec: PartitionSpec) -> None:
    """Refuse a spec whose key stands for something else already."""
    ids = [each.run_id for each in (before, spec) if isinstance(each, RunSpec | InferenceSpec)]
    if len(set(ids)) > 1:
        raise SpecError(
            f"{spec.key} is the key of run {ids[0]} already, and run {ids[1]} has the same beginning; give another "
            "experiment_name"
        )
    if isinstance(before, InferenceSpec) and isinstance(spec, InferenceSpec) and before.source != spec.source:
        raise SpecError(
            f"table: {spec.destination} already holds inferences of run {spec.run_id[:12]}... on {before.source}, "
            f"and this config applies it to {spec.source}; give another upload_table"
        )
