"""History: the epochs of a training, which of them is exported, and when there are enough."""

from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One epoch of a network, or one iteration of the solver of a conditional logit.

    Attributes:
        epoch: from 1.
        loss: mean negative log-likelihood over the epoch's training batches, in nats, regularisers included.
        val_loss: the same over the decisions that choose the epoch, after it; None without such decisions.
        val_accuracy: share of these decisions whose selected choice has the highest utility; None without them.
        seconds: how long it took, the evaluation included; None where nobody measured it.
        learning_rate: of the optimizer at the end of the epoch; None for a solver.
        exported: whether the exported model is that of this epoch.
    """

    epoch: int
    loss: float
    val_loss: float | None
    val_accuracy: float | None = None
    seconds: float | None = None
    learning_rate: float | None = None
    exported: bool = False


def best_of(history: Sequence[Epoch]) -> int:
    """Return the number of the first epoch with the lowest `val_loss`, from 1; of the last one without such losses.

    >>> best_of([Epoch(epoch=n + 1, loss=1.0, val_loss=loss) for n, loss in enumerate([0.9, 0.7, 0.7, 0.8])])
    2
    """
    losses = [epoch.val_loss for epoch in history if epoch.val_loss is not None]
    return losses.index(min(losses)) + 1 if losses else len(history)


def has_ended(history: Sequence[Epoch], epochs: int, patience: int | None) -> bool:
    """Tell whether a training of so many epochs is over, or stops early.

    Args:
        patience: epochs in a row without a lower `val_loss` after which it stops; None: it does not.

    >>> losing = [Epoch(epoch=n + 1, loss=1.0, val_loss=loss) for n, loss in enumerate([0.9, 0.7, 0.7, 0.8])]
    >>> has_ended(losing, 10, patience=2), has_ended(losing, 10, patience=3), has_ended(losing, 4, None)
    (True, False, True)
    """
    return len(history) >= epochs or (patience is not None and len(history) - best_of(history) >= patience)


def mark_exported(history: Sequence[Epoch], number: int) -> list[Epoch]:
    """Return the history with one epoch, from 1, marked as exported."""
    return [replace(epoch, exported=epoch.epoch == number) for epoch in history]
