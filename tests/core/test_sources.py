import decimal

import pyarrow as pa
import pytest

from mimic_core.errors import TableError
from mimic_core.sources import check_schema, columns_to_read, standard_columns


def table(**columns):
    """Return a decision table without rows, with more columns if there are any."""
    kinds = {"_individual": pa.int64(), "_decision": pa.int64(), "_choice": pa.int64()}
    kinds |= {"_selected": pa.bool_(), "_train": pa.bool_(), "size": pa.float64()}
    return pa.table({name: pa.array([], kind) for name, kind in kinds.items()} | columns)


def test_a_schema_that_fits_is_accepted():
    check_schema(table().schema, ["size"], table="haven.t")


def test_every_problem_of_a_schema_is_named_at_once():
    kinds = {"_individual": pa.int32(), "_choise": pa.int64(), "_choice": pa.bool_(), "_train": pa.int8()}
    schema = pa.schema(kinds | {"size": pa.string(), "agee": pa.float32()})
    with pytest.raises(TableError) as caught:
        check_schema(schema, ["size", "age"], table="haven.t")
    assert str(caught.value) == (
        "table haven.t is not a decision table with these features:\n"
        "  column '_decision' is missing\n"
        "  column '_selected' is missing\n"
        "  column 'age' is missing (did you mean 'agee'?)\n"
        "  column '_individual' is int32, expected int64 or string\n"
        "  column '_choice' is bool, expected int64 or string\n"
        "  column '_train' is int8, expected bool\n"
        "  feature 'size' is string, expected numbers\n"
        "  its columns are _individual, _choise, _choice, _train, size, agee; mend the table or the config"
    )


@pytest.mark.parametrize("kind", [pa.string(), pa.timestamp("us"), pa.date32(), pa.list_(pa.float32()), pa.binary()])
def test_a_feature_that_is_no_number_is_refused(kind):
    schema = table().schema.append(pa.field("age", kind))
    with pytest.raises(TableError, match=r"feature 'age' is .*, expected numbers"):
        check_schema(schema, ["size", "age"], table="haven.t")


def test_flags_may_be_absent_where_they_are_not_required_but_not_of_another_type():
    keys = ("_individual", "_decision", "_choice")
    schema = table().drop_columns(["_selected", "_train"]).schema
    check_schema(schema, ["size"], table="haven.t", required=keys)
    with pytest.raises(TableError, match="column '_selected' is int64, expected bool"):
        check_schema(schema.append(pa.field("_selected", pa.int64())), ["size"], table="haven.t", required=keys)


def test_a_build_reads_keys_flags_and_features_and_nothing_else():
    schema = table(age=pa.array([], pa.int64()), unused=pa.array([], pa.string())).schema
    assert columns_to_read(schema, ["age"]).names == ["_individual", "_decision", "_choice", "_selected", "_train", "age"]
    assert columns_to_read(schema.remove(4), ["age"]).names == ["_individual", "_decision", "_choice", "_selected", "age"]


def test_an_imported_table_gets_int64_ids_bool_flags_and_plain_strings():
    imported = pa.table(
        {
            "_individual": pa.array([1, 2], pa.int8()),
            "_decision": pa.array([1, 2], pa.uint64()),
            "_selected": pa.array([0, 1], pa.int64()),
            "_train": pa.array([1, None], pa.uint8()),
            "_alternative": pa.array(["a", "b"]).dictionary_encode(),
            "name": pa.array(["a", "b"], pa.large_string()),
            "size": pa.array([1, 2], pa.int16()),
        }
    )
    standard = standard_columns(imported)
    assert standard.schema.types == [pa.int64(), pa.int64(), pa.bool_(), pa.bool_(), pa.string(), pa.string(), pa.int16()]
    assert standard["_selected"].to_pylist() == [False, True]
    assert standard["_train"].to_pylist() == [True, None]
    assert standard["_alternative"].to_pylist() == ["a", "b"]


def test_a_flag_with_another_number_than_0_and_1_is_refused():
    with pytest.raises(TableError, match=r"column '_selected' holds other numbers than 0 and 1 in 1 rows \(2\)"):
        standard_columns(pa.table({"_selected": [0, 1, 2]}))


def test_an_id_beyond_int64_is_refused():
    with pytest.raises(TableError, match=r"column '_choice' \(uint64\) does not fit int64: .*18446744073709551615"):
        standard_columns(pa.table({"_choice": pa.array([2**64 - 1], pa.uint64())}))


@pytest.mark.parametrize("values", [[None], [True], [b"a"], [[1]]])
def test_ids_that_are_neither_whole_numbers_nor_text_are_refused(values):
    with pytest.raises(TableError, match=r"column '_individual' is .*, expected whole numbers or text as ids"):
        standard_columns(pa.table({"_individual": values}))


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())])
def test_ids_of_text_stay_text_and_an_empty_one_is_missing(kind):
    column = standard_columns(pa.table({"_decision": pa.array(["007", "", None]).cast(kind)}))["_decision"]
    assert column.type == pa.string()
    assert column.to_pylist() == ["007", None, None]


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (pa.float64(), [2.0**53 - 1, -0.0, float("nan"), None]),
        (pa.float32(), [2.0**24 - 1, 0.0, None, float("nan")]),
        (pa.decimal128(18, 0), [decimal.Decimal(10**17), decimal.Decimal(0), None, None]),
        (pa.decimal128(20, 2), [decimal.Decimal("7.00"), decimal.Decimal("0.00"), None, None]),
        (pa.decimal32(5, 2), [decimal.Decimal("7.00"), decimal.Decimal("0.00"), None, None]),
    ],
)
def test_whole_floats_and_decimals_are_ids(kind, values):
    column = standard_columns(pa.table({"_choice": pa.array(values, kind)}))["_choice"]
    assert column.type == pa.int64()
    assert column.to_pylist() == [int(values[0]), 0, None, None]


@pytest.mark.parametrize(
    ("kind", "value", "digits"), [(pa.float64(), 1.5, 53), (pa.float64(), 2.0**53, 53), (pa.float32(), 2.0**24, 24)]
)
def test_floats_that_are_no_exact_ids_are_refused_with_examples(kind, value, digits):
    message = rf"column '_choice' \(\w+\) holds other numbers than ids in 1 rows \({value}\); .* below 2\^{digits}"
    with pytest.raises(TableError, match=message):
        standard_columns(pa.table({"_choice": pa.array([1, value, None], kind)}))


def test_a_decimal_id_with_a_fraction_is_refused():
    with pytest.raises(TableError, match=r"column '_choice' .* does not fit int64"):
        standard_columns(pa.table({"_choice": [decimal.Decimal("7.50")]}))


def test_flags_may_be_text_or_decimals():
    words = ["True", "FALSE", " t", "f", "1", "0", "", None]
    expected = [True, False, True, False, True, False, None, None]
    assert standard_columns(pa.table({"_train": words}))["_train"].to_pylist() == expected
    assert standard_columns(pa.table({"_train": pa.array([1, 0], pa.decimal128(1, 0))}))["_train"].to_pylist() == [
        True,
        False,
    ]


def test_a_flag_of_another_text_is_refused_with_examples():
    with pytest.raises(TableError, match=r"column '_train' holds other texts than true, false, t, f, 1 and 0 in 2 rows"):
        standard_columns(pa.table({"_train": ["true", "yes", "no"]}))


def test_flags_with_missing_values_keep_them():
    """pandas writes a flag with a gap as 1.0, 0.0 and NaN, and one of gaps only without a type."""
    columns = pa.table({"_train": [1.0, 0.0, float("nan"), None], "_selected": pa.nulls(4)})
    expected = {"_train": [True, False, None, None], "_selected": [None] * 4}
    assert standard_columns(columns).to_pydict() == expected


@pytest.mark.parametrize("values", [[b"1"], [[1]]])
def test_a_flag_that_is_neither_true_nor_a_whole_number_is_refused(values):
    with pytest.raises(TableError, match=r"column '_train' is .*, expected true and false, or 1 and 0"):
        standard_columns(pa.table({"_train": values}))


def test_dictionary_encoded_ids_and_flags_are_decoded():
    table = pa.table({"_individual": pa.array([1, 2]).dictionary_encode(), "_train": pa.array([1, 0]).dictionary_encode()})
    assert standard_columns(table).to_pydict() == {"_individual": [1, 2], "_train": [True, False]}
