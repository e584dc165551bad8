"""Records: decisions as standard TFRecord files of `tf.train.Example`, one record per decision, and back.

Every record of a file has the same length: integers take ten bytes, as protobuf allows. So a whole block of decisions is
encoded by filling a byte template with NumPy and decoded by slicing it; no object per decision exists.

Source: the TFRecord framing and the tf.train.Example message of TensorFlow; base-128 varints of Protocol Buffers.
"""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt

from mimic_core.errors import CorruptFileError
from mimic_core.rows import Rows
from mimic_core.sources import ALTERNATIVE, OFFSET, WEIGHT

HEADER_BYTES, FOOTER_BYTES = 12, 4  # length and its checksum; checksum of the payload
INTEGER_BYTES = 10  # the longest varint
ZERO = b"\x80" * (INTEGER_BYTES - 1) + b"\0"  # a varint of that length
BLOCK = 2048  # decisions encoded at a time
KEYS_OF_OPTIONAL = {WEIGHT: "weight", ALTERNATIVE: "alternatives", OFFSET: "sampling_log_probability"}
VARINT = np.dtype([("low", "<u8"), ("high", "<u2")])  # the ten bytes of an integer

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Field:
    """One key of an Example: its dtype, its shape, and where its payload lies within a record, in bytes."""

    dtype: str
    shape: tuple[int, ...]
    offset: int

    @property
    def size(self) -> int:
        """Number of values."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def payload(self) -> slice:
        """The bytes of the values within a record."""
        return slice(self.offset, self.offset + self.size * (4 if self.dtype == "float32" else INTEGER_BYTES))


@dataclass(frozen=True)
class Layout:
    """The byte template that all records of a dataset share."""

    fields: dict[str, Field]
    template: Bytes

    @property
    def record_bytes(self) -> int:
        """Length of one framed record."""
        return len(self.template)


def shapes(max_choices: int, features: int, optional: Iterable[str] = ()) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return dtype and shape of each key of an Example.

    Args:
        optional: which of the reserved columns that a table need not have are in the records.
    """
    extras: dict[str, tuple[str, tuple[int, ...]]] = {
        WEIGHT: ("float32", ()),
        ALTERNATIVE: ("int64", (max_choices,)),
        OFFSET: ("float32", (max_choices,)),
    }
    return {
        "x": ("float32", (max_choices, features)),
        "n_choices": ("int64", ()),
        "selected": ("int64", ()),
        "individual": ("int64", ()),
        "decision": ("int64", ()),
        "choices": ("int64", (max_choices,)),
        **{KEYS_OF_OPTIONAL[name]: extras[name] for name in extras if name in optional},
    }


def layout(max_choices: int, features: int, optional: Iterable[str] = ()) -> Layout:
    """Lay out a record: a framed tf.train.Example with zeros for its values; arguments as `shapes` takes them."""
    entries, ends = [], []
    for name, (dtype, shape) in shapes(max_choices, features, optional).items():
        size = int(np.prod(shape, dtype=np.int64))
        real = dtype == "float32"
        values = b"\0" * 4 * size if real else ZERO * size
        feature = _message(b"\x12" if real else b"\x1a", _message(b"\x0a", values))  # float_list 2, int64_list 3
        entries.append(_message(b"\x0a", _message(b"\x0a", name.encode()) + _message(b"\x12", feature)))
        ends.append((name, dtype, shape, len(values)))
    body = b"".join(entries)
    payload = _message(b"\x0a", body)
    position, fields = HEADER_BYTES + len(payload) - len(body), {}
    for entry, (name, dtype, shape, size) in zip(entries, ends, strict=True):
        position += len(entry)
        fields[name] = Field(dtype, shape, position - size)
    length = struct.pack("<Q", len(payload))
    frame = length + struct.pack("<I", _masked(google_crc32c.value(length))) + payload + b"\0" * FOOTER_BYTES
    return Layout(fields, np.frombuffer(frame, np.uint8))


def encode(rows: Rows, max_choices: int) -> Iterator[memoryview]:
    """Encode sorted rows as framed records, a block of decisions at a time.

    Args:
        rows: whole decisions, at most `max_choices` rows and exactly one selected each.
        max_choices: choices per record; the real ones come first, zeros after them.

    Yields:
        Bytes of whole records; all of them in order are a TFRecord file.
    """
    shape = layout(max_choices, rows.x.shape[1], rows.optional)
    bounds = np.append(rows.starts, len(rows))
    for first in range(0, rows.decisions, BLOCK):
        last = min(first + BLOCK, rows.decisions)
        weight = None if rows.weight is None else rows.weight[first:last]
        yield _encode_block(rows, bounds[first : last + 1], weight, shape)


def decode(data: bytes, shape: Layout, name: str) -> dict[str, npt.NDArray[Any]]:
    """Decode records to arrays with one leading axis of decisions.

    Raises:
        CorruptFileError: the bytes are no records of this layout.
    """
    records = frames(data, shape, name)
    return {key: values(records, field) for key, field in shape.fields.items()}


def frames(data: bytes, shape: Layout, name: str) -> Bytes:
    """View bytes as records, without a copy: (decisions, record_bytes).

    Raises:
        CorruptFileError: the bytes are no records of this layout.
    """
    if len(data) % shape.record_bytes:
        raise CorruptFileError(
            f"{name}: damaged: {len(data):,} bytes are not a whole number of records of {shape.record_bytes}; build it again"
        )
    return np.frombuffer(data, np.uint8).reshape(-1, shape.record_bytes)


def values(records: Bytes, field: Field, real: npt.NDArray[np.bool_] | None = None) -> npt.NDArray[Any]:
    """Decode one key of records.

    Args:
        records: (decisions, record_bytes).
        real: (decisions, max_choices), the entries along the axis of choices to return, one after the other; None returns
            all of them.

    Returns:
        (decisions, *field.shape) or, with `real`, (rows, *field.shape[1:]); never a view.
    """
    raw = records[:, field.payload]
    if field.dtype != "float32":
        integers = _from_varints(raw.view(VARINT)).reshape(len(records), *field.shape)
        return integers if real is None else np.asarray(integers[real])
    if real is None or len(field.shape) < 2:
        numbers = np.array(raw, order="C").view("<f4").reshape(len(records), *field.shape)
        return numbers if real is None else np.asarray(numbers[real])
    # all features of a choice are copied as one item: half the time of copying them as numbers
    whole = raw.view(np.dtype((np.void, 4 * field.shape[-1])))  # (decisions, max_choices)
    return np.asarray(whole[real].view("<f4").reshape(-1, field.shape[-1]))


def _encode_block(
    rows: Rows, bounds: npt.NDArray[np.int64], weight: npt.NDArray[np.float32] | None, shape: Layout
) -> memoryview:
    first, last = int(bounds[0]), int(bounds[-1])
    starts, counts = bounds[:-1], np.diff(bounds)
    real = np.arange(shape.fields["choices"].size) < counts[:, None]  # (records, max_choices)
    records = np.tile(shape.template, (len(starts), 1))
    # a choice's values are copied as one item of a structured array, past the padding
    _items(records, shape.fields["x"])[real] = rows.x[first:last].view(f"V{rows.x.shape[1] * 4}")[:, 0]
    _items(records, shape.fields["choices"])[real] = _to_varints(rows.choice[first:last])
    if rows.alternative is not None:
        _items(records, shape.fields["alternatives"])[real] = _to_varints(rows.alternative[first:last])
    if rows.offset is not None:
        _items(records, shape.fields["sampling_log_probability"])[real] = rows.offset[first:last].view("V4")
    integers = {
        "n_choices": counts,
        "selected": np.flatnonzero(rows.selected[first:last]) - (starts - first),
        "individual": rows.individual[starts],
        "decision": rows.decision[starts],
    }
    for name, values in integers.items():
        _items(records, shape.fields[name])[:, 0] = _to_varints(values)
    if weight is not None:
        _items(records, shape.fields["weight"])[:, 0] = weight.view("V4")
    end = shape.record_bytes - FOOTER_BYTES
    payloads = np.ndarray(len(starts), f"V{end - HEADER_BYTES}", records.data, HEADER_BYTES, records.strides[:1])
    # one call of the library per record: the framing asks for a checksum of each
    checksums = np.fromiter(map(google_crc32c.value, payloads.tolist()), np.uint32, len(starts))
    records[:, end:] = _masked(checksums).astype("<u4").reshape(-1, 1).view(np.uint8)
    return records.reshape(-1).data


def _items(records: Bytes, field: Field) -> npt.NDArray[np.void]:
    """Return (records, items) the bytes of a field within records: of a choice's values, or of an integer."""
    items = field.shape[0] if field.shape else 1
    width = (field.payload.stop - field.payload.start) // items
    strides = (records.strides[0], width)
    return np.ndarray((len(records), items), f"V{width}", records.data, field.offset, strides)


def _to_varints(values: npt.NDArray[np.int64]) -> npt.NDArray[np.void]:
    """(n,) int64 -> (n,) items of 10 bytes."""
    unsigned = np.ascontiguousarray(values, np.int64).view(np.uint64)
    varints = np.tile(np.frombuffer(ZERO, np.uint8), (len(values), 1))
    septets = -(-int(unsigned.max(initial=0)).bit_length() // 7)  # those above are zero
    for place in range(septets):
        varints[:, place] |= ((unsigned >> np.uint64(7 * place)) & np.uint64(0x7F)).astype(np.uint8)
    return varints.view(f"V{INTEGER_BYTES}")[:, 0]


def _from_varints(raw: npt.NDArray[np.void]) -> npt.NDArray[np.int64]:
    """Any shape of VARINT -> the same shape of int64; upper septets that are zero everywhere cost nothing.

    Neighbouring lanes of 7 bits are joined, then those of 14, then those of 28.
    """
    low = raw["low"] & np.uint64(0x7F7F7F7F7F7F7F7F)
    largest = low.max(initial=0)
    if largest > 0x7F:
        low = (low & np.uint64(0x007F007F007F007F)) | ((low & np.uint64(0x7F007F007F007F00)) >> np.uint64(1))
        low = (low & np.uint64(0x00003FFF00003FFF)) | ((low & np.uint64(0x3FFF00003FFF0000)) >> np.uint64(2))
    if largest > 0x7F7F7F7F:
        low = (low & np.uint64(0x000000000FFFFFFF)) | ((low & np.uint64(0x0FFFFFFF00000000)) >> np.uint64(4))
    high = raw["high"] & np.uint16(0x017F)
    if high.any():
        wide = high.astype(np.uint64)
        low |= ((wide & np.uint64(0x7F)) << np.uint64(56)) | ((wide & np.uint64(0x100)) << np.uint64(55))
    return np.asarray(low).view(np.int64)


def _message(tag: bytes, content: bytes) -> bytes:
    size, length = len(content), b""
    while True:
        size, septet = size >> 7, size & 0x7F
        length += bytes([septet | (0x80 if size else 0)])
        if not size:
            return tag + length + content


def _masked(crc: Any) -> Any:
    """Rotate and shift a checksum as the TFRecord framing asks; works on an int or an array of uint32."""
    rotated = (np.uint32(crc) >> np.uint32(15)) | (np.uint32(crc) << np.uint32(17))
    with np.errstate(over="ignore"):
        return rotated + np.uint32(0xA282EAD8)
