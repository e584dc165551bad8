"""Specs: the configs that define every partition, and the keys and ids that follow from them.

The keys of a config are those of the original tool. A spec holds everything that defines the data; nothing else does.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, field_validator, model_validator

from mimic_core.compute import ComputeSpec
from mimic_core.documents import Seed, Spec, normalise
from mimic_core.errors import SpecError, did_you_mean
from mimic_core.filters import Condition, parse_filter
from mimic_core.interactions import Columns, columns
from mimic_core.model_specs import ExperimentModelSpec, ModelSpec
from mimic_core.sources import FLAGS, KEYS

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=128)]
TableName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=128)]
Feature = Annotated[str, StringConstraints(pattern=r"^[^_].*$")]
Features = Annotated[tuple[Feature, ...], Field(min_length=1)]


def _two(pair: tuple[str, ...]) -> tuple[str, ...]:
    if len(pair) != 2:
        raise ValueError(f"expected two names or patterns of features, found {json.dumps(pair)}")
    return pair


Pair = Annotated[tuple[Feature, ...], AfterValidator(_two)]
KEY_DIGITS = 12  # of a run id in partition keys, which Dagster writes below its plots, where 64 leave no room for a curve
WHOLE_RUN_ID = re.compile("[0-9a-f]{64}")
RunId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
MOST_PAIRS = 1_000_000  # per individual
OPERATIONAL = frozenset({"refresh", "shards_per_step", "compute"})  # keys that ids and versions leave out
Float32 = Annotated[float, Field(ge=-3.4e38, le=3.4e38)]  # what a feature can hold


class PartitionSpec(Spec):
    """A spec that defines one partition of an asset."""

    asset: ClassVar[str]

    refresh: Literal["auto", "manual"] = Field(
        "auto",
        description='Who asks for a build when an input changed: with "auto" the platform, with "manual" a person. It is no '
        "part of what is built: changing it makes nothing out of date, and run ids leave it out.",
        examples=["manual"],
    )
    compute: ComputeSpec | None = Field(
        None,
        description="In a cluster, what each step of the build gets: GPUs, cores, memory and nodes; unset keys are as the "
        "cluster has them for the stage. It is no part of what is built: changing it makes nothing out of date, and run ids "
        "leave it out. On one machine it does nothing.",
        examples=[{"gpu": 1, "cpu": "4", "memory": "16Gi"}],
    )

    @property
    def defining(self) -> dict[str, Any]:
        """What of the document decides the result: all but the keys that only say when to build."""
        return defining(self.document)

    @property
    def key(self) -> str:
        """The partition key."""
        raise NotImplementedError

    @property
    def folder(self) -> str:
        """Where the partition's files and manifest live in the object storage."""
        raise NotImplementedError


class TableReader(PartitionSpec):
    """A spec of what is made from the rows of a table, shard by shard."""

    train_partitions: Annotated[int, Field(ge=1)] = Field(
        1, description="Number of shards with _train = true.", examples=[8]
    )
    test_partitions: Annotated[int, Field(ge=1)] = Field(
        1, description="Number of shards with _train = false.", examples=[2]
    )
    shards_per_step: Annotated[int, Field(ge=1, le=200)] = Field(
        1,
        description="Shards of each split that one step builds, at most 200; more where shards are many and small. It is no "
        "part of what is built: changing it makes nothing out of date.",
        examples=[4],
    )
    where: str | None = Field(
        None,
        description="Rows to use: comparisons of columns by = != < <= > >=, joined by `and`. A decision of which it keeps "
        "only some rows is invalid.",
        examples=["region = 'north' and age >= 18"],
    )
    invalid_decisions: Literal["error", "drop"] = Field(
        "error",
        description='What to do with decisions that break the decision-table contract: "error" builds nothing, "drop" '
        "leaves them out as wholes and counts them.",
        examples=["drop"],
    )

    @model_validator(mode="after")
    def _where_can_be_read(self) -> Self:
        try:
            self.conditions  # noqa: B018  parses
        except SpecError as error:
            raise ValueError(f"where: {error}") from error
        return self

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """What `where` says."""
        return parse_filter(self.where) if self.where is not None else ()

    @property
    def drops(self) -> bool:
        """Whether invalid decisions are left out."""
        return self.invalid_decisions == "drop"

    @property
    def partitions(self) -> dict[str, int]:
        """Number of shards of each split."""
        return {"train": self.train_partitions, "test": self.test_partitions}


class SamplingWeights(Spec):
    """The protocol of weighted sampling: a rejected choice is drawn with a probability in proportion to its weight."""

    weights: Annotated[str, StringConstraints(min_length=1)] = Field(
        description="Column of the source table with the weights, numbers above zero.", examples=["visits"]
    )

    @field_validator("weights")
    @classmethod
    def _is_a_column_of_numbers(cls, value: str) -> str:
        if value in (*KEYS, *FLAGS):
            raise ValueError(f"expected a column of numbers, found {value!r}, which has ids or flags")
        return value


class ContrastSpec(TableReader):
    """`build-contrast`: pairs of a selected and a rejected choice are sampled from a decision table."""

    asset: ClassVar[str] = "contrast_set"

    database: TableName = Field(description="Database of the source table and of the contrast table.", examples=["travel"])
    source_table: TableName = Field(description="Name of the source table, a decision table.", examples=["trips"])
    destination_table: TableName = Field(description="Name of the contrast table.", examples=["trip_contrasts"])
    decisions_per_individual: Annotated[int, Field(ge=1)] = Field(
        description="Draws per individual from its decisions that offer a rejected choice; times "
        "alternatives_per_decision at most 1,000,000.",
        examples=[5],
    )
    alternatives_per_decision: Annotated[int, Field(ge=1)] = Field(
        description="Rejected choices per draw, each paired with the selected one.", examples=[2]
    )
    sampling: SamplingWeights | None = Field(
        None,
        description="How rejected choices are sampled. Unset: uniformly, that is evenly and without a correction. "
        '{"weights": COLUMN}: independently and with replacement, in proportion to a column; '
        "`_sampling_log_probability` in the contrast table then corrects the estimate for it.",
        examples=[{"weights": "visits"}],
    )
    seed: Seed = Field(0, description="Seed of the sampling.", examples=[1])

    @field_validator("sampling", mode="before")
    @classmethod
    def _uniform_is_the_default(cls, value: Any) -> Any:
        if value == "uniform":
            return None
        if not isinstance(value, dict | SamplingWeights | None):
            raise ValueError(f'expected "uniform" or {{"weights": COLUMN}}, found {json.dumps(value)}')
        return value

    @model_validator(mode="after")
    def _tables_differ(self) -> Self:
        if self.source_table == self.destination_table:
            raise ValueError(
                f"destination_table: {self.destination_table!r} is the source table; give the contrast table a name"
            )
        pairs = self.decisions_per_individual * self.alternatives_per_decision
        if pairs > MOST_PAIRS:
            raise ValueError(
                f"decisions_per_individual: {self.decisions_per_individual} x alternatives_per_decision "
                f"{self.alternatives_per_decision} are {pairs:,} pairs per individual, expected at most {MOST_PAIRS:,}"
            )
        return self

    @property
    def key(self) -> str:
        return f"{self.database}.{self.destination_table}"

    @property
    def folder(self) -> str:
        return contrast_folder(self.key)

    @property
    def source(self) -> str:
        """`database.table` of the source."""
        return f"{self.database}.{self.source_table}"

    @property
    def deciding(self) -> dict[str, Any]:
        """What decides which rows are sampled: everything but the number of shards."""
        names = ["decisions_per_individual", "alternatives_per_decision", "seed"]
        names += ["where"] * (self.where is not None) + ["invalid_decisions"] * self.drops
        drawn = {"sampling": self.sampling.document} if self.sampling else {}
        return {name: getattr(self, name) for name in names} | drawn


class DatasetSpec(TableReader):
    """`build-dataset`: a decision table becomes sharded TFRecord files."""

    asset: ClassVar[str] = "tfrecord_dataset"

    database: TableName = Field(description="Database of the source table.", examples=["travel"])
    table: TableName = Field(
        description="Name of the source table: a decision table, or a contrast set.", examples=["trips"]
    )
    max_choices: Annotated[int, Field(ge=2)] = Field(description="Most choices that a decision may offer.", examples=[3])
    overflow: Literal["error", "sample"] = Field(
        "error",
        description='What to do with a decision that offers more than max_choices: "error" builds nothing, "sample" keeps '
        "the selected choice and a uniform sample of the others.",
        examples=["sample"],
    )
    seed: Seed = Field(0, description='Seed of that sample; without "overflow": "sample" it does nothing.', examples=[1])
    features: Features = Field(
        description="Feature columns, in the order in which they are stored.", examples=[["time", "cost", "asc_car"]]
    )
    missing_values_map: dict[str, Float32] = Field(
        default_factory=dict,
        description="Feature column -> the value that stands in for a null or NaN.",
        examples=[{"cost": -1}],
    )
    compression: Literal["GZIP"] | None = Field(
        default=None, description='How the files are compressed: "GZIP", or unset for not at all.', examples=["GZIP"]
    )
    space: Name = Field(
        description="Space: the prefix of the storage that holds datasets and models.", examples=["commuters"]
    )
    dataset: Name = Field(description="Name of the dataset within its space.", examples=["trips"])

    @model_validator(mode="after")
    def _columns_agree(self) -> Self:
        _no_repeats(self.features)
        for column in self.missing_values_map:
            if column not in self.features:
                raise ValueError(
                    f"missing_values_map: {column!r} is not one of the features{did_you_mean(column, self.features)}"
                )
        return self

    @property
    def key(self) -> str:
        return f"{self.space}/{self.dataset}"

    @property
    def folder(self) -> str:
        return f"{self.space}-tfrecords/{self.dataset}"

    @property
    def source(self) -> str:
        """`database.table` of the source."""
        return f"{self.database}.{self.table}"


class _Experiment(PartitionSpec):
    experiment_name: Name = Field(description="Name of the experiment.", examples=["logit-and-networks"])
    space: Name = Field(description="Space that holds the dataset and the models.", examples=["commuters"])
    dataset: Name = Field(description="Dataset to train on.", examples=["trips"])
    max_choices: Annotated[int, Field(ge=2)] = Field(description="Most choices that a decision may offer.", examples=[3])
    features: Features = Field(
        description="Features to use: those of the dataset or fewer, in any order.", examples=[["time", "cost", "asc_car"]]
    )
    interactions: tuple[Pair, ...] = Field(
        (),
        description="Products of two columns to use beside the features: a pattern stands for all features that it matches, "
        "a name for that column of the dataset, listed among the features or not.",
        examples=[[["asc_*", "income"]]],
    )
    database: TableName = Field(description="Database of the results table.", examples=["travel"])
    table: TableName = Field(description="Results table: one row per run and epoch.", examples=["results"])

    @model_validator(mode="after")
    def _columns_can_be_named(self) -> Self:
        _no_repeats(self.features)
        try:
            self.columns  # noqa: B018  names them
        except SpecError as error:
            raise ValueError(str(error)) from error
        return self

    @property
    def columns(self) -> Columns:
        """What a model reads of the dataset, and what it makes of that."""
        return columns(self.interactions, self.features)

    @property
    def experiment_key(self) -> str:
        """Partition key of the experiment's report."""
        return experiment_key(self.space, self.experiment_name)

    @property
    def dataset_key(self) -> str:
        """Partition key of the dataset that the experiment trains on."""
        return f"{self.space}/{self.dataset}"

    @property
    def dataset_folder(self) -> str:
        """Where that dataset lives in the object storage."""
        return f"{self.space}-tfrecords/{self.dataset}"

    @property
    def results(self) -> str:
        """`database.table` of the results."""
        return f"{self.database}.{self.table}"


class RunSpec(_Experiment):
    """One model of one experiment: what a partition of `model_run` trains."""

    asset: ClassVar[str] = "model_run"

    model: ModelSpec

    @property
    def run_id(self) -> str:
        """SHA-256 over what the user set, as the original tool computes it."""
        return hashlib.sha256(json.dumps(self.defining, sort_keys=True).encode()).hexdigest()

    @property
    def key(self) -> str:
        return run_key(self.experiment_key, self.run_id)

    @property
    def folder(self) -> str:
        return f"{self.space}-models/{self.experiment_name}/{self.run_id}"


class ExperimentSpec(_Experiment):
    """`run-experiment`: several models on one dataset, one run each."""

    models: Annotated[tuple[ExperimentModelSpec, ...], Field(min_length=1)] = Field(
        description='The models, one run each; a model with "seeds", one run for each of these.',
        examples=[[{"layers": []}, {"layers": ["D32", "D16"], "seeds": [1, 2, 3]}]],
    )

    @model_validator(mode="after")
    def _models_differ(self) -> Self:
        seen: dict[str, int] = {}
        for index, model in self.numbered:
            text = json.dumps(model.document, sort_keys=True)
            if text in seen:
                both = f" with seed {model.seed}" if self.models[index].seeds or self.models[seen[text]].seeds else ""
                raise ValueError(
                    f"models[{index}] is identical to models[{seen[text]}]{both}, so both would be one run; "
                    'remove one, or give them different "seed"s'
                )
            seen[text] = index
        return self

    @property
    def numbered(self) -> tuple[tuple[int, ModelSpec], ...]:
        """Every model that is trained, one for each seed, with its place in the config."""
        return tuple((index, model) for index, entry in enumerate(self.models) for model in entry.models)

    @property
    def document(self) -> dict[str, Any]:
        return super().document | {"models": [model.document for _, model in self.numbered]}

    @property
    def runs(self) -> tuple[RunSpec, ...]:
        """One spec per model and seed, in the order of the config."""
        document = self.document
        models = document.pop("models")
        return tuple(RunSpec.model_validate(document | {"model": model}) for model in models)


class InferenceSpec(TableReader):
    """`run-batch-infer`: a trained run is applied to every row of a table."""

    asset: ClassVar[str] = "inference_table"

    database: TableName = Field(description="Database of the source table and of the inference table.", examples=["travel"])
    table: TableName = Field(description="Name of the source table.", examples=["trips"])
    features: Features = Field(description="The run's features, in any order.", examples=[["time", "cost", "asc_car"]])
    explain: tuple[Feature, ...] = Field(
        (),
        description="Features whose effects to compute: a column d_probability_d_<feature> each, and their averages and "
        "quantiles with the elasticities.",
        examples=[["time", "cost"]],
    )
    space: Name = Field(description="Space that holds the run.", examples=["commuters"])
    experiment_name: Name = Field(description="Experiment of the run.", examples=["logit-and-networks"])
    run_id: RunId = Field(
        description="The run to apply.", examples=["9b0556be032119fc566fc751c692a13ad7793d33309be140512f65fa1b75fe09"]
    )
    upload_table: TableName = Field(description="Name of the inference table.", examples=["trip_probabilities"])

    @model_validator(mode="after")
    def _tables_differ(self) -> Self:
        _no_repeats(self.features)
        if self.table == self.upload_table:
            raise ValueError(f"upload_table: {self.upload_table!r} is the source table; give the inference table a name")
        return self

    @model_validator(mode="after")
    def _explained_are_features(self) -> Self:
        _no_repeats(self.explain, "explain")
        for name in self.explain:
            if name not in self.features:
                near = did_you_mean(name, self.features)
                raise ValueError(
                    f"explain: {name!r} is not one of the features{near}; list it there too if the run reads it; they are "
                    f"{', '.join(self.features)}"
                )
        return self

    @property
    def key(self) -> str:
        return run_key(f"{self.destination}/{self.experiment_name}", self.run_id)

    @property
    def folder(self) -> str:
        return f"{self.space}-inferences/{self.destination}/{self.experiment_name}/{self.run_id}"

    @property
    def source(self) -> str:
        """`database.table` of the rows to score."""
        return f"{self.database}.{self.table}"

    @property
    def destination(self) -> str:
        """`database.table` of the scored rows."""
        return f"{self.database}.{self.upload_table}"

    @property
    def run_folder(self) -> str:
        """Where the run lives in the object storage."""
        return f"{self.space}-models/{self.experiment_name}/{self.run_id}"

    @property
    def run_key(self) -> str:
        """Partition key of the run."""
        return run_key(experiment_key(self.space, self.experiment_name), self.run_id)


class ReportSpec(PartitionSpec):
    """The report on an experiment, which is registered nowhere: it is made of the runs that are trained by then."""

    asset: ClassVar[str] = "experiment_report"

    space: Name = Field(description="Space that holds the experiment's runs.")
    experiment_name: Name = Field(description="Name of the experiment.")

    @classmethod
    def of(cls, experiment: str) -> Self:
        """Return the report on an experiment by its key."""
        space, _, name = experiment.rpartition("/")
        return cls.model_validate({"space": space, "experiment_name": name})

    @property
    def key(self) -> str:
        return experiment_key(self.space, self.experiment_name)

    @property
    def folder(self) -> str:
        return f"{self.space}-reports/{self.experiment_name}"


PARTITION_SPECS: tuple[type[PartitionSpec], ...] = (ContrastSpec, DatasetSpec, RunSpec, InferenceSpec)


def experiment_key(space: str, experiment_name: str) -> str:
    """Return the partition key of an experiment, with which those of its runs begin."""
    return f"{space}/{experiment_name}"


def run_key(experiment: str, run_id: str) -> str:
    """Return the partition key of a run, or of what it infers, with the beginning of its id.

    >>> run_key("s/e", "9b0556be" * 8)
    's/e/9b0556be9b05'
    """
    return f"{experiment}/{run_id[:KEY_DIGITS]}"


def present_key(asset: str, key: str) -> str:
    """Return a partition key as it is now, also of one with the whole run id that earlier versions had (decision 0029).

    >>> present_key("model_run", "s/e/" + "9b0556be" * 8)
    's/e/9b0556be9b05'
    """
    experiment, _, last = key.rpartition("/")
    of_run = asset in (RunSpec.asset, InferenceSpec.asset)
    return run_key(experiment, last) if of_run and WHOLE_RUN_ID.fullmatch(last) else key


def contrast_folder(key: str) -> str:
    """Return where the manifest of a contrast set lives in the object storage."""
    return f"contrast-sets/{key}"


def defining(document: dict[str, Any]) -> dict[str, Any]:
    """Return a document without the keys that decide nothing about the result.

    >>> defining({"seed": 3, "refresh": "manual"})
    {'seed': 3}
    """
    return {name: value for name, value in document.items() if name not in OPERATIONAL}


def spec_digest(document: dict[str, Any], *parts: str) -> str:
    """Return the version of a spec: a hash of what defines the result, in its document and the texts stored with it."""
    text = json.dumps([normalise(defining(document)), *parts], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _no_repeats(features: Sequence[str], key: str = "features") -> None:
    repeated = sorted({name for name in features if features.count(name) > 1})
    if repeated:
        raise ValueError(f"{key}: {', '.join(map(repr, repeated))} stands more than once; name each feature once")
