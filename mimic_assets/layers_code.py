"""Layers files as code: where they may be executed, and what is said where they may not."""

from mimic_core.errors import SpecError
from mimic_core.layers_files import KNOWN, is_code
from resources.environments import ALLOW_LAYERS_CODE, layers_code_allowed


def require_allowed(layers: str, where: str) -> None:
    """Check that a layers file may be executed here: one that mimic wrote for the names of layers always may.

    Args:
        layers: its text.
        where: what it is called in messages.

    Raises:
        SpecError: it is somebody's code, and this is a cluster that does not allow it.
    """
    if is_code(layers) and not layers_code_allowed():
        raise SpecError(
            f"{where}: a layers file is code, which this cluster does not execute; without one there are {KNOWN}. Whoever "
            f"runs the cluster can allow it by {ALLOW_LAYERS_CODE}=1 (docs/security.md says what that means)"
        )
