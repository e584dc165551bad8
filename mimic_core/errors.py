"""Every error that a caller can cause. Catch `MimicError` for all of them.

MimicError
 +-- SpecError           a config that cannot be used (ValueError)
 +-- NotFoundError       a table, dataset, run or file that is not there (LookupError)
 +-- TableError          a table whose columns or types do not fit (ValueError)
 |    +-- DecisionTableError   rows that break the decision-table contract
 +-- CorruptFileError    stored bytes that are not the bytes that were written (ValueError)
 +-- ConflictError       somebody else published first (RuntimeError)
 +-- StorageError        bytes that could not be written, for example on a full disk (OSError)
 +-- TrainingError       a model that could not be fitted (RuntimeError)
 +-- AlertError          an alert that could not be delivered (RuntimeError)
 +-- ServerError         a server that is not reached, or cannot answer (RuntimeError)

A message says where, what was expected, what was found and what to do.
"""

import difflib
from collections.abc import Iterable


class MimicError(Exception):
    """Root of all errors that a user can cause and mend."""


class SpecError(MimicError, ValueError):
    """A config is not usable: unknown or missing key, wrong type, impossible value."""


class NotFoundError(MimicError, LookupError):
    """Something that a config or command names does not exist."""


class TableError(MimicError, ValueError):
    """A table's columns or types are not what its use needs."""


class DecisionTableError(TableError):
    """Rows break the decision-table contract; the message holds every broken rule with counts and examples."""


class CorruptFileError(MimicError, ValueError):
    """A stored file differs from what was written."""


class ConflictError(MimicError, RuntimeError):
    """Another writer published first; this one discarded its work."""


class StorageError(MimicError, OSError):
    """Bytes could not be stored; what was there before is unchanged."""


class TrainingError(MimicError, RuntimeError):
    """A model could not be fitted to its data."""


class AlertError(MimicError, RuntimeError):
    """An alert could not be delivered to people."""


class ServerError(MimicError, RuntimeError):
    """A deployed platform is not reached, lets nobody in, or is not one that can answer."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a hint naming the closest known name, or an empty string.

    >>> did_you_mean("epoch", ["epochs", "layers"])
    " (did you mean 'epochs'?)"
    >>> did_you_mean("adam", ["Nadam", "Adam"])
    " (did you mean 'Adam'?)"
    """
    names = list(known)
    same = [each for each in names if each.casefold() == str(name).casefold()]
    near = same or difflib.get_close_matches(str(name), names, 1)
    return f" (did you mean {near[0]!r}?)" if near else ""
