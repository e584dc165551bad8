import json

import pytest

from mimic_core.errors import CorruptFileError
from mimic_core.manifests import FORMAT_VERSION, file_entry, fingerprint, seal, unseal, verify

DOCUMENT = {"rows": 3, "share": 0.5, "name": "Zürich", "files": [{"path": "a", "none": None}], "ok": True}


def test_a_sealed_document_comes_back_as_it_was_with_its_format_version():
    assert unseal(seal(DOCUMENT), "manifest.json") == {"format_version": FORMAT_VERSION, **DOCUMENT}


def test_a_sealed_document_is_json_that_a_person_can_read():
    text = seal(DOCUMENT).decode()
    assert json.loads(text)["name"] == "Zürich"
    assert text.splitlines()[1] == ' "format_version": 1,'


def test_the_same_document_has_the_same_bytes():
    assert seal(DOCUMENT) == seal(dict(DOCUMENT))


def test_a_flipped_byte_at_every_position_of_a_sealed_document_is_refused_with_its_name():
    sealed = seal(DOCUMENT)
    for position in range(len(sealed)):
        for change in (0x01, 0x20, 0xFF):
            damaged = bytearray(sealed)
            damaged[position] ^= change
            with pytest.raises(CorruptFileError, match=r"here/manifest\.json: damaged"):
                unseal(bytes(damaged), "here/manifest.json")


def test_a_document_cut_short_at_every_position_is_refused():
    sealed = seal(DOCUMENT)
    for length in range(len(sealed)):
        with pytest.raises(CorruptFileError, match=r"manifest\.json: damaged"):
            unseal(sealed[:length], "manifest.json")


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"3", b"null", b'{"checksum": "x"}', b"\xff", b"[" * 100_000])
def test_bytes_that_were_never_sealed_are_refused(data):
    with pytest.raises(CorruptFileError, match=r"manifest\.json: damaged.*build it again"):
        unseal(data, "manifest.json")


def test_the_same_content_in_other_bytes_is_refused():
    with pytest.raises(CorruptFileError, match="its checksum does not match its content"):
        unseal(json.dumps(json.loads(seal(DOCUMENT))).encode(), "manifest.json")


def test_a_newer_format_is_refused_with_the_advice_to_update():
    newer = seal({**DOCUMENT, "format_version": FORMAT_VERSION + 1})
    with pytest.raises(CorruptFileError, match=r"manifest\.json: format_version 2 is newer than 1, .*; update mimic"):
        unseal(newer, "manifest.json")


def test_a_document_with_a_number_that_is_not_finite_cannot_be_sealed():
    with pytest.raises(ValueError, match="JSON compliant"):
        seal({"loss": float("nan")})


def test_a_fingerprint_does_not_depend_on_the_order_of_keys_and_does_on_every_value():
    first = fingerprint({"a": 1, "b": {"c": 2, "d": 3}})
    assert fingerprint({"b": {"d": 3, "c": 2}, "a": 1}) == first
    assert fingerprint({"a": 1, "b": {"c": 2, "d": 4}}) != first


def test_a_file_entry_holds_the_length_and_the_sha256_of_its_bytes():
    assert file_entry(b"abc", rows=1) == {
        "bytes": 3,
        "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        "rows": 1,
    }


def test_the_bytes_of_an_entry_are_returned():
    assert verify(b"abc", file_entry(b"abc"), "model.keras") == b"abc"


def test_a_flipped_byte_a_missing_and_an_additional_byte_are_refused_with_the_name():
    data = bytes(range(64))
    entry = file_entry(data)
    flipped = [data[:i] + bytes([data[i] ^ 0x10]) + data[i + 1 :] for i in range(len(data))]
    for damaged in (*flipped, data[:-1], data + b"\0", b""):
        with pytest.raises(CorruptFileError, match=r"model\.keras: damaged: expected 64 bytes with SHA-256 .*, found "):
            verify(damaged, entry, "model.keras")
