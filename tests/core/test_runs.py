import itertools
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from mimic_core import runs
from mimic_core.configs import parse_spec
from mimic_core.contract import Rules, check_block
from mimic_core.datasets import by_shard, rules, schema_document, shard_path
from mimic_core.errors import SpecError, TrainingError
from mimic_core.evaluation import evaluate
from mimic_core.layers_files import default_layers
from mimic_core.manifests import file_entry, seal
from mimic_core.networks import utility_function
from mimic_core.records import encode
from mimic_core.runs import metrics
from mimic_core.shards import plan_parts
from mimic_core.sources import SPLITS
from mimic_core.specs import DatasetSpec, RunSpec
from mimic_core.splits import read_rows
from mimic_core.streams import Stream, in_memory
from mimic_core.training import Progress

FEATURES = ["size", "age"]
LAYERS, NO_LAYERS = default_layers(["D4"]), default_layers([])
SAME = 'LAYERS = {"same": lambda: Dense(2, use_bias=False, kernel_initializer="identity", trainable=False)}'


def table(individuals=20, seed=0):
    """Return four decisions of one to three choices for each individual, drawn from a logit; every fifth is a test one."""
    random = np.random.default_rng(seed)
    rows = []
    for individual, decision in itertools.product(range(-3, individuals - 3), range(4)):
        x = random.normal(size=(random.integers(1, 4), 2)).astype(np.float32)
        best = np.argmax(x @ [1.0, -0.7] + random.gumbel(size=len(x)))
        rows += [(individual, decision, c, c == best, individual % 5 != 0, *x[c]) for c in range(len(x))]
    names = ["_individual", "_decision", "_choice", "_selected", "_train", *FEATURES]
    return pa.table({name: np.array(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)})


def flat(source):
    """Return a table as flat rows."""
    return check_block(source, Rules(features=tuple(FEATURES))).rows


def splits(source):
    """Return the training and the test rows of a table."""
    return [flat(source.filter(keep)) for keep in (source["_train"], pc.invert(source["_train"]))]


def train(spec, layers, train_rows, test_rows, on_epoch=lambda _: None, **options):
    return runs.train(
        spec, layers, in_memory(train_rows), in_memory(test_rows), progress=Progress(on_epoch=on_epoch), **options
    )


def split_validation(rows, share, seed):
    """Return the parts, in memory and, equal to them, from a stream that is read anew for every pass."""
    parts = runs.split_validation(in_memory(rows), share, seed)
    stream = Stream(read=in_memory(rows).read, decisions=rows.decisions)
    for name, part in runs.split_validation(stream, share, seed).items():
        assert (part.decisions, part.rows) == (parts[name].decisions, None)
        assert np.array_equal(np.concatenate([block.x for block in part]), parts[name].rows.x)
    return {name: part.rows for name, part in parts.items()}


def run_spec(layers=("D4",), **model):
    document = {"experiment_name": "e", "space": "s", "dataset": "d", "max_choices": 3, "database": "haven", "table": "r"}
    model = {"layers": list(layers), "epochs": 3, "batch_size": 16, **model}
    return parse_spec(RunSpec, {**document, "features": FEATURES, "model": model})


def weights(run):
    return [values.tolist() for values in run.network.get_weights()]


def nll(run, rows):
    return evaluate(rows, utility_function(run.network)(rows.x)).nll


def through_a_dataset(folder, source, max_choices, train_partitions):
    """Build a dataset from a table and read its splits."""
    document = {"database": "haven", "table": "t", "space": "s", "dataset": "d", "train_partitions": train_partitions}
    spec, files = parse_spec(DatasetSpec, {**document, "max_choices": max_choices, "features": FEATURES}), []
    block = check_block(source, rules(spec))
    (part,) = plan_parts(spec.partitions, None, per_step=max(spec.partitions.values()))
    held = dict(by_shard(block, part))
    for place, shard in enumerate(part.shards):
        data = b"".join(encode(held[place], spec.max_choices)) if place in held else b""
        path = folder / shard_path(shard)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        files.append(file_entry(data, path=shard_path(shard), split=shard.split))
    (folder / "schema.json").write_bytes(seal(schema_document(spec, files, [])))
    return [read_rows(folder, split) for split in SPLITS]


def test_a_linear_run_finds_the_odds_worked_out_by_hand():
    # with only a constant for choice 1, its log-odds are those of its share: 3 of 4
    source = pa.table(
        {
            "_individual": [0, 0, 0, 0, 1, 1, 1, 1],
            "_decision": [0, 0, 1, 1, 0, 0, 1, 1],
            "_choice": [0, 1] * 4,
            "_selected": [False, True, False, True, False, True, True, False],
            "_train": [True] * 8,
            "size": [0.0, 1.0] * 4,
            "age": [5.0] * 8,
        }
    )
    rows = flat(source)
    run = train(run_spec([]), NO_LAYERS, rows, rows)
    assert weights(run)[0] == [[pytest.approx(np.log(3), abs=1e-9)], [0.0]]
    expected = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    assert [run.history[-1].loss, run.history[-1].val_loss] == pytest.approx([expected] * 2, abs=1e-9)
    assert run.evaluations["train"].accuracy == 0.75


def test_the_loss_of_an_epoch_without_movement_is_the_mean_over_decisions():
    data, test = splits(table())
    still = {"optimizer": "SGD", "optimizer_kwargs": {"learning_rate": 1e-30}, "epochs": 1}
    for batch_size in (1, 7, 16, 1000):
        run = train(run_spec(batch_size=batch_size, **still), LAYERS, data, test)
        assert run.history[0].loss == pytest.approx(nll(run, data), rel=1e-5)
        assert run.history[0].val_loss == pytest.approx(nll(run, test), rel=1e-6)


def test_one_step_of_gradient_descent_is_that_of_the_masked_softmax():
    data, test = splits(table())
    step = {"optimizer": "SGD", "optimizer_kwargs": {"learning_rate": 0.5}, "epochs": 1, "batch_size": 1000, "seed": 3}
    before = train(run_spec(["same"], **{**step, "optimizer_kwargs": {"learning_rate": 1e-30}}), SAME, data, test)
    after = train(run_spec(["same"], **step), SAME, data, test)
    beta = np.array(weights(before)[1])[:, 0]
    gradient = np.zeros(2)
    for x, selected in zip(np.split(data.x, data.starts[1:]), np.split(data.selected, data.starts[1:]), strict=True):
        p = np.exp(x @ beta) / np.exp(x @ beta).sum()
        gradient += (p @ x - x[selected][0]) / data.decisions
    np.testing.assert_allclose(np.array(weights(after)[1])[:, 0], beta - 0.5 * gradient, atol=1e-6)


def test_the_same_seed_gives_the_same_weights_bit_for_bit():
    data, test = splits(table())
    first, second = (train(run_spec(seed=5), LAYERS, data, test) for _ in range(2))
    assert weights(first) == weights(second)
    assert first.history == second.history


def test_another_seed_gives_other_weights():
    data, test = splits(table())
    assert weights(train(run_spec(seed=5), LAYERS, data, test)) != weights(train(run_spec(seed=6), LAYERS, data, test))


def test_a_seed_orders_the_decisions_too():
    data, test = splits(table())
    fixed = 'LAYERS = {"D4": lambda: (keras.utils.set_random_seed(0), Dense(4))[1]}'  # the same first weights for every seed
    first, second = (train(run_spec(seed=seed, epochs=1), fixed, data, test) for seed in (5, 6))
    assert weights(first) != weights(second)
    np.testing.assert_allclose(weights(first)[0], weights(second)[0], atol=0.05)


def test_dropout_is_seeded_too_and_off_when_a_network_is_judged():
    data, test = splits(table())
    source = 'LAYERS = {"D4": lambda: Dense(4, activation="relu"), "off": lambda: Dropout(0.5)}'
    first, second = (train(run_spec(["D4", "off"], seed=2), source, data, test) for _ in range(2))
    assert weights(first) == weights(second)
    assert first.history[-1].val_loss == second.history[-1].val_loss
    assert nll(first, test) == pytest.approx(min(epoch.val_loss for epoch in first.history), rel=1e-6)


def test_the_order_of_rows_changes_nothing():
    source = table()
    mixed = source.take(np.random.default_rng(1).permutation(len(source)))
    assert weights(train(run_spec(), LAYERS, *splits(mixed))) == weights(train(run_spec(), LAYERS, *splits(source)))


def test_the_epoch_with_the_lowest_val_loss_is_exported():
    data, test = splits(table())
    wild = {"optimizer": "SGD", "optimizer_kwargs": {"learning_rate": 1.5}, "epochs": 12, "seed": 1}
    seen = []
    run = train(run_spec(**wild), LAYERS, data, test, seen.append)
    losses = [epoch.val_loss for epoch in run.history]
    best = int(np.argmin(losses))
    assert best < 11, "choose another learning rate, so that the last epoch is not the best"
    assert [epoch.exported for epoch in run.history] == [i == best for i in range(12)]
    assert nll(run, test) == pytest.approx(losses[best], rel=1e-6)
    assert run.evaluations["test"].nll == pytest.approx(losses[best], rel=1e-6)
    assert [epoch.epoch for epoch in seen] == list(range(1, 13))
    assert [(epoch.loss, epoch.val_loss) for epoch in seen] == [(epoch.loss, epoch.val_loss) for epoch in run.history]


def test_a_network_whose_epoch_the_test_split_chose_says_so():
    (note,) = train(run_spec(), LAYERS, *splits(table())).notes
    assert note.startswith("the exported epoch was chosen by its loss on the test split")
    assert '"validation"' in note


@pytest.mark.parametrize("layers", [[], ["D4"]])
def test_an_empty_test_split_is_legal_and_exports_the_last_epoch(layers):
    data = splits(table())[0]
    nobody = splits(table().slice(0, 0))[1]
    seen = []
    run = train(run_spec(layers), LAYERS, data, nobody, seen.append)
    assert list(run.evaluations) == ["train"]
    assert {epoch.val_loss for epoch in seen} == {None}
    assert [epoch.exported for epoch in run.history] == [False] * (len(run.history) - 1) + [True]
    assert run.evaluations["train"].nll == pytest.approx(nll(run, data), rel=1e-6)
    assert metrics(run)["val_loss"] is None
    (note,) = run.notes
    assert note == "the test split is empty: there are no test numbers" + ", and the last epoch is exported" * bool(layers)


def test_an_empty_train_split_is_an_error():
    nobody, test = splits(table().slice(0, 0))[0], splits(table())[1]
    for layers in ([], ["D4"]):
        with pytest.raises(
            TrainingError, match=r"the training split is empty; set _train for some individuals and build the"
        ):
            train(run_spec(layers), LAYERS, nobody, test)


def test_a_validation_share_sets_whole_individuals_aside():
    data, _ = splits(table(200))
    parts = split_validation(data, 0.25, seed=0)
    held, kept = (set(parts[name].individuals.tolist()) for name in ("validation", "train"))
    assert not held & kept
    assert held | kept == set(data.individuals.tolist())
    assert 0.15 < len(held) / 160 < 0.35
    assert parts["validation"].decisions + parts["train"].decisions == data.decisions
    for part in parts.values():
        assert (np.add.reduceat(part.selected.astype(int), part.starts) == 1).all()
        assert part.counts.sum() == len(part)
        assert np.array_equal(part.x, data.x[np.isin(data.individual, part.individuals)])


def test_a_validation_share_depends_on_the_seed_and_not_on_the_other_individuals():
    data, _ = splits(table(200))
    first, second = (set(split_validation(data, 0.25, seed)["validation"].individuals.tolist()) for seed in (0, 1))
    assert first != second
    fewer, _ = splits(table(100))
    assert set(split_validation(fewer, 0.25, 0)["validation"].individuals.tolist()) == {i for i in first if i < 97}


def test_a_larger_validation_share_holds_the_smaller_one():
    data, _ = splits(table(200))
    small, large = (set(split_validation(data, share, 0)["validation"].individuals.tolist()) for share in (0.1, 0.4))
    assert small < large


def test_a_tiny_validation_share_still_holds_one_individual():
    parts = split_validation(splits(table())[0], 1e-9, 0)
    assert [len(parts[name].individuals) for name in ("validation", "train")] == [1, 15]


def test_a_validation_share_that_leaves_no_one_to_train_on_is_refused():
    expected = r"model\.validation: a share of .* of 16 training individuals leaves no one to train on; give"
    with pytest.raises(SpecError, match=expected):
        split_validation(splits(table())[0], 1 - 1e-9, 0)


def test_a_network_that_diverges_is_an_error_and_not_a_model():
    """The loss of the last epoch is that of the weights before its last step, and says nothing of those after it."""
    data, test = splits(table())
    spec = run_spec(epochs=1, batch_size=1000, optimizer="SGD", optimizer_kwargs={"learning_rate": 1e38})
    with pytest.raises(TrainingError, match="lower learning_rate"):
        train(spec, LAYERS, data, test)
    with pytest.raises(TrainingError, match="lower learning_rate"):
        train(spec, LAYERS, data, splits(table().slice(0, 0))[1])


def test_validation_individuals_choose_the_epoch_and_the_test_split_is_not_touched():
    data, test = splits(table(40))
    run = train(run_spec(validation=0.3, epochs=8), LAYERS, data, test)
    other = train(run_spec(validation=0.3, epochs=8), LAYERS, data, splits(table(40, seed=9))[1])
    assert weights(run) == weights(other)
    assert run.history == other.history
    parts = split_validation(data, 0.3, 0)
    assert list(run.evaluations) == ["train", "validation", "test"]
    assert run.evaluations["validation"].decisions == parts["validation"].decisions
    assert run.evaluations["train"].decisions == parts["train"].decisions
    best = min(run.history, key=lambda epoch: epoch.val_loss)
    assert best.exported
    assert nll(run, parts["validation"]) == pytest.approx(best.val_loss, rel=1e-6)
    assert run.notes == []


def test_a_linear_run_exports_the_training_optimum_whatever_val_loss_says():
    data, _ = splits(table())
    contrary = splits(table())[0]
    contrary.x[:] *= -1
    run = train(run_spec([]), NO_LAYERS, data, contrary)
    assert min(run.history, key=lambda epoch: epoch.val_loss) is not run.history[-1]
    assert [epoch.exported for epoch in run.history] == [False] * (len(run.history) - 1) + [True]
    assert [epoch.epoch for epoch in run.history] == list(range(1, len(run.history) + 1))
    assert run.history[-1].loss == pytest.approx(nll(run, data), rel=1e-12)
    assert run.history[-1].val_loss == pytest.approx(nll(run, contrary), rel=1e-12)


@pytest.mark.parametrize("layers", [[], ["D4"]])
def test_what_corrects_the_sampling_of_choices_is_in_every_number_of_the_splits(layers):
    random, parts = np.random.default_rng(3), splits(table(60))
    data, test = (replace(part, offset=random.normal(size=len(part)).astype(np.float32)) for part in parts)
    run = train(run_spec(layers), default_layers(layers), data, test)
    exported = next(epoch for epoch in run.history if epoch.exported)
    for split, rows in (("train", data), ("test", test)):
        corrected = evaluate(rows, utility_function(run.network)(rows.x) + rows.offset).nll
        assert run.evaluations[split].nll == pytest.approx(corrected, rel=1e-12)
        assert corrected != pytest.approx(nll(run, rows), rel=1e-3)
        mine = run.individuals.filter(pc.field("split") == split)
        assert -pc.sum(mine["log_likelihood"]).as_py() / rows.decisions == pytest.approx(corrected, rel=1e-12)
    assert exported.val_loss == pytest.approx(run.evaluations["test"].nll, rel=1e-6)
    if not layers:
        assert exported.loss == pytest.approx(run.evaluations["train"].nll, rel=1e-9)
        plain = train(run_spec(layers), NO_LAYERS, *parts)
        assert np.abs(np.array(weights(run)[0]) - weights(plain)[0]).max() > 0.01


def test_a_linear_run_with_a_validation_share_says_that_it_was_held_out():
    data, test = splits(table(40))
    run = train(run_spec([], validation=0.25), NO_LAYERS, data, test)
    parts = split_validation(data, 0.25, 0)
    assert run.notes == ["a share of 0.25 of the training individuals was held out of the estimate"]
    assert run.evaluations["train"].decisions == parts["train"].decisions
    assert weights(run) == weights(train(run_spec([]), NO_LAYERS, parts["train"], test))


@pytest.mark.parametrize("source", [LAYERS, 'LAYERS = {"D4": lambda: BatchNormalization()}'])
def test_padding_never_enters(tmp_path, source):
    runs = [
        train(run_spec(), source, *through_a_dataset(tmp_path / str(most), table(), most, partitions))
        for most, partitions in ((3, 1), (11, 2))
    ]
    assert weights(runs[0]) == weights(runs[1])
    assert runs[0].history == runs[1].history


def test_decisions_with_a_single_choice_add_nothing_to_a_gradient():
    source = table()
    keys = source.select(["_individual", "_decision"]).to_pandas()
    several = source.filter(pa.array(keys.groupby(["_individual", "_decision"])["_decision"].transform("size") > 1))
    moves = []
    for data, test in (splits(source), splits(several)):
        model = {"optimizer": "SGD", "epochs": 1, "batch_size": 1000}
        start, end = (
            train(run_spec(["same"], **model, optimizer_kwargs={"learning_rate": rate}), SAME, data, test)
            for rate in (1e-30, 0.5)
        )
        moves.append(data.decisions * (np.array(weights(end)[1]) - np.array(weights(start)[1])))
    assert len(several) < len(source)
    np.testing.assert_allclose(moves[0], moves[1], rtol=1e-4)


def test_a_loss_that_is_not_finite_stops_with_the_features_that_reach_far():
    data, test = splits(table())
    expected = (
        r"the loss of epoch \d is (nan|-?inf) in batch \d of 4; expected a finite number\. "
        r"The features reach .*size -.*lower learning_rate"
    )
    with pytest.raises(TrainingError, match=expected):
        train(run_spec(optimizer="SGD", optimizer_kwargs={"learning_rate": 1e10 + 0.5}, epochs=6), LAYERS, data, test)


def test_an_unknown_layer_stops_before_training():
    with pytest.raises(SpecError, match=r"model\.layers\[0\]: unknown layer 'D8'"):
        train(run_spec(["D8"]), LAYERS, *splits(table()))


def test_a_regulariser_is_part_of_the_loss_and_not_of_val_loss():
    data, test = splits(table())
    still = {"optimizer": "SGD", "optimizer_kwargs": {"learning_rate": 1e-30}, "epochs": 1}
    source = 'LAYERS = {"D4": lambda: Dense(4, kernel_regularizer=keras.regularizers.L2(0.5))}'
    run = train(run_spec(**still), source, data, test)
    penalty = 0.5 * np.square(weights(run)[0]).sum()
    assert run.history[0].loss == pytest.approx(nll(run, data) + penalty, rel=1e-5)
    assert run.history[0].val_loss == pytest.approx(nll(run, test), rel=1e-6)


def test_metrics_are_numbers_named_after_their_split():
    run = train(run_spec(), LAYERS, *splits(table()))
    found = metrics(run)
    exported = next(epoch for epoch in run.history if epoch.exported)
    assert found["test_nll"] == run.evaluations["test"].nll
    assert found["train_rho_squared"] == run.evaluations["train"].rho_squared
    assert (found["epochs"], found["exported_epoch"]) == (3, exported.epoch)
    assert (found["loss"], found["val_loss"]) == (exported.loss, exported.val_loss)
    assert found["last_val_loss"] == run.history[-1].val_loss


@pytest.mark.parametrize(
    ("column", "contrasts", "reason"),
    [
        ("weight", False, "decisions are weighted"),
        ("offset", False, "choices were sampled with unequal probabilities"),
        (None, True, "the dataset was built from a contrast set, whose pairs are no independent decisions"),
    ],
)
@pytest.mark.parametrize("layers", [[], ["D4"]])
def test_rho_squared_of_weighted_and_sampled_decisions_is_withheld_whatever_the_model(layers, column, contrasts, reason):
    parts = splits(table())
    if column == "weight":
        parts = [replace(part, weight=np.full(part.decisions, 2, np.float32)) for part in parts]
    if column == "offset":
        parts = [replace(part, offset=np.zeros(len(part), np.float32)) for part in parts]
    run = train(run_spec(layers, epochs=1), default_layers(layers), *parts, contrasts=contrasts)
    assert run.composite == (reason,)
    assert {split: metrics(run)[f"{split}_rho_squared"] for split in SPLITS} == dict.fromkeys(SPLITS)
    said = run.coefficients["withheld"] if run.coefficients else [note for note in run.notes if "rho-squared" in note]
    assert [reason in sentence for sentence in said] == [True]


@pytest.mark.parametrize("layers", [[], ["D4"]])
def test_a_test_split_without_weight_has_no_numbers_and_chooses_nothing(layers):
    data, test = splits(table())
    test = replace(test, weight=np.zeros(test.decisions, np.float32))
    run = train(run_spec(layers), default_layers(layers), data, test)
    last = ", and the last epoch is exported" if layers else ""
    assert run.notes == [f"the test split has no decision of positive weight: there are no test numbers{last}"]
    assert (set(run.evaluations), run.history[-1].exported) == ({"train"}, True)


def test_numbers_of_pairs_and_a_batch_larger_than_the_split_are_noted():
    data, test = splits(table())
    notes = train(run_spec(["D4"], batch_size=10_000), LAYERS, data, test, contrasts=True).notes
    assert f"batch_size 10,000: there are {data.decisions} training decisions, so an epoch is one batch" in notes
    assert notes[-1].startswith("the numbers of the splits are of pairs of choices; apply the run to a table")
