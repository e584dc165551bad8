"""Scoring: blocks of checked rows become the rows of an inference, and what they hold is added up on the way.

Inference tables and the files of `mimic predict` are scored by this one code, so their numbers are the same.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from mimic_core import contract, inferences
from mimic_core.alternatives import shares_by_code
from mimic_core.distributions import FeatureSample, add_samples, sample_features
from mimic_core.effects import EffectSums, add_effects
from mimic_core.evaluation import Measured, add_measured, combine, named
from mimic_core.rows import Float32, Float64
from mimic_core.score_counts import ScoreCounts, add_counts, count_scores
from mimic_core.shards import Part
from mimic_core.sources import ALTERNATIVE, SPLITS
from mimic_core.tallies import Tally, add_tallies, tally

Function = Callable[[Float32], Float64]


class Scoring:
    """One pass of a run over the rows of a part, and what was found in them so far.

    Attributes:
        effects: of the features to explain; None where there are none, or no rows.
        labels: what each surrogate of an alternative stands for.
    """

    def __init__(
        self,
        rules: contract.Rules,
        part: Part,
        functions: Callable[[], tuple[Function, Function]],
        *,
        experiment_name: str,
        run_id: str,
        explain: Sequence[str] = (),
        shares: Mapping[int, float] | None = None,
        table_rows: int | None = None,
    ) -> None:
        """Begin.

        Args:
            rules: of the run's features, see `mimic_core.inferences.rules`.
            functions: gives the run's utility and its derivatives by `explain`; called when there is a row to score.
            shares: as in `mimic_core.inferences.measure_selected`.
            table_rows: as in `mimic_core.row_samples.sample_rows`.
        """
        self._rules, self._part, self._functions = rules, part, functions
        self._names = {"experiment_name": experiment_name, "run_id": run_id}
        self._explain, self._shares, self._table_rows = tuple(explain), shares, table_rows
        self._tallies: list[Tally] = []
        self._measured: list[dict[str, Measured]] = []
        self._samples: list[FeatureSample] = []
        self._counts: list[ScoreCounts] = []
        self.effects: EffectSums | None = None
        self.labels: dict[int, Any] = {}

    def rows(self, blocks: Iterable[contract.Block]) -> Iterator[pa.Table]:
        """Score blocks; after the first one that breaks the contract they are only counted.

        Raises:
            TrainingError: the network gave a utility or a derivative that is not finite.
        """
        functions, broken = None, False
        for block in blocks:
            self._tallies.append(tally(block, self._rules, whole=self._part.whole))
            broken = broken or bool(block.outcome.violations)
            if broken or not len(block.rows):
                continue
            functions = functions or self._functions()
            yield self._scored(block, *functions)

    def _scored(self, block: contract.Block, utilities: Function, gradients: Function) -> pa.Table:
        utility = utilities(block.rows.x)
        self.labels.update(inferences.alternative_labels(block))
        self._measured.append({split: inferences.measure_selected(block, utility, split, self._shares) for split in SPLITS})
        rows = inferences.inference_rows(block, utility, self._part, **self._names)
        self._counts.append(count_scores(rows, block.rows.starts, block.rows.selected))
        self._samples.append(sample_features(block, self._table_rows))
        if not self._explain:
            return rows
        rows, sums = inferences.explain_rows(
            rows,
            block,
            gradients(block.rows.x),
            self._explain,
            self._rules.features,
            run_id=self._names["run_id"],
            table_rows=self._table_rows,
        )
        self.effects = add_effects([self.effects, sums])  # at once: every block has a sample of its own
        return rows

    @property
    def tally(self) -> Tally:
        """What was found in the rows."""
        return add_tallies(self._tallies)

    @property
    def measured(self) -> dict[str, Measured]:
        """Split -> how well the run explains its selected choices, in sums."""
        return add_splits(self._measured)

    @property
    def sample(self) -> FeatureSample | None:
        """The features of a sample of the rows; None without rows."""
        return add_samples(self._samples)

    @property
    def counts(self) -> ScoreCounts:
        """How many rows have which probability and log-odds."""
        return add_counts(self._counts)


def add_splits(parts: Sequence[Mapping[str, Measured]]) -> dict[str, Measured]:
    """Add what was measured of disjoint individuals in each split."""
    return {split: add_measured(part[split] for part in parts) for split in SPLITS}


def metrics(measured: Mapping[str, Measured], *, composite: bool) -> dict[str, float | int | None]:
    """Return the metrics of both splits by name, such as `test_nll`; `composite` is as in `mimic_core.evaluation.named`."""
    return {
        name: value
        for split in SPLITS
        for name, value in named(combine([measured[split]]), split, composite=composite).items()
    }


def shares_in(schema: pa.Schema, run: Mapping[str, Any]) -> dict[int, float] | None:
    """Return the shares of the alternatives that a run was trained on, by their codes in rows of a schema.

    Args:
        run: its manifest.
    """
    shares = run.get("alternative_shares")
    if shares is None or ALTERNATIVE not in schema.names:
        return None
    return shares_by_code(shares, schema.field(ALTERNATIVE).type)
