"""Manifests and other sealed JSON: what was built, from what, and the checksums by which a reader trusts it.

A sealed document is canonical JSON that ends with the SHA-256 of the rest, so any changed byte is noticed.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mimic_core.errors import CorruptFileError

FORMAT_VERSION = 1


def seal(document: dict[str, Any]) -> bytes:
    """Serialise a document with its `format_version` and checksum.

    >>> unseal(seal({"rows": 3}), "manifest.json")["rows"]
    3
    """
    document = {"format_version": FORMAT_VERSION, **document}
    return _text({**document, "checksum": hashlib.sha256(_text(document)).hexdigest()})


def unseal(data: bytes, name: str) -> dict[str, Any]:
    """Read a sealed document.

    Raises:
        CorruptFileError: a byte differs from what was written, or a newer version of mimic wrote it.
    """
    try:
        document: dict[str, Any] = json.loads(data)
        checksum = document.pop("checksum")
        whole = data == _text({**document, "checksum": checksum})
        intact = whole and checksum == hashlib.sha256(_text(document)).hexdigest()
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise CorruptFileError(f"{name}: damaged: it is not the document that was written; build it again") from error
    if not intact:
        raise CorruptFileError(f"{name}: damaged: its checksum does not match its content; build it again")
    if document["format_version"] > FORMAT_VERSION:
        raise CorruptFileError(
            f"{name}: format_version {document['format_version']} is newer than {FORMAT_VERSION}, "
            "the newest that this mimic reads; update mimic"
        )
    return document


def fingerprint(document: dict[str, Any] | list[str]) -> str:
    """Return the version of a result: a hash of everything that defines it."""
    return hashlib.sha256(json.dumps(document, sort_keys=True, allow_nan=False).encode()).hexdigest()


def build_version(spec_digest: str, inputs: dict[str, Any], code_version: str) -> str:
    """Return the fingerprint of a build, which the planner tells beforehand: of spec, inputs and the code of its stage."""
    return fingerprint({"spec": spec_digest, "inputs": inputs, "code_version": code_version})


def file_entry(data: bytes, **facts: Any) -> dict[str, Any]:
    """Describe a file's content for a manifest: bytes, checksum and what else is known."""
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), **facts}


def verify(data: bytes, entry: dict[str, Any], name: str) -> bytes:
    """Return a file's bytes if they are those of its manifest entry.

    Raises:
        CorruptFileError: they are not.
    """
    _require(entry, len(data), hashlib.sha256(data).hexdigest(), name)
    return data


def verify_file(path: Path, entry: Mapping[str, Any], name: str | None = None) -> None:
    """Read a file once, in pieces, and refuse it if it is not that of its manifest entry.

    Args:
        name: what messages call it; its path by default.

    Raises:
        CorruptFileError: it is not.
    """
    with path.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
        _require(entry, handle.tell(), digest, name or str(path))


def _require(entry: Mapping[str, Any], size: int, digest: str, name: str) -> None:
    if size != entry["bytes"] or digest != entry["sha256"]:
        raise CorruptFileError(
            f"{name}: damaged: expected {entry['bytes']:,} bytes with SHA-256 {entry['sha256'][:12]}..., found "
            f"{size:,} bytes with {digest[:12]}...; build it again"
        )


def _text(document: dict[str, Any]) -> bytes:
    return (json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
