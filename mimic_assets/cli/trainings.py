"""Trainings in progress: how the epoch that each has finished last is said. Imported at start-up."""

from typing import Any

SHOWN = {"loss": "loss {:.4f}", "val_loss": "val_loss {:.4f}", "val_accuracy": "val_accuracy {:.4f}", "seconds": "{:.3g} s"}


def words_of(epoch: dict[str, Any]) -> str:
    """Say an epoch of `mimic_assets.standing` in words."""
    name, of = ("epoch", f"/{epoch['epochs']}") if epoch["epochs"] else ("iteration", "")
    numbers = [text.format(epoch[key]) for key, text in SHOWN.items() if epoch.get(key) is not None]
    return f"{name} {epoch['epoch']}{of}, {', '.join(numbers)}"
