"""Pace: how far a long stage of work is, and how long the rest of it takes, in words."""

SOON = 1  # second


def describe_pace(done: int, total: int | None, unit: str, seconds: float) -> str:
    """Say how much of a stage is done, and about how long the rest takes at the same pace.

    Args:
        done, total: in units; a total of None is not known.
        seconds: since the stage began.

    >>> describe_pace(3_000_000, 12_000_000, "rows", 7.0)
    '3,000,000 of 12,000,000 rows (25%), about 21 s left'
    >>> describe_pace(3_000_000, None, "rows", 7.0)
    '3,000,000 rows so far'
    """
    if total is None or done > total:
        return f"{done:,} {unit} so far"
    left = seconds / done * (total - done) if done else 0.0
    said = f"{done:,} of {total:,} {unit} ({done / max(total, 1):.0%})"
    return f"{said}, about {describe_seconds(left)} left" if left >= SOON else said


def describe_seconds(seconds: float) -> str:
    """Write a duration for people.

    >>> [describe_seconds(seconds) for seconds in (0.04, 7.26, 75, 4000, 200_000)]
    ['0.0 s', '7.3 s', '75 s', '67 min', '56 h']
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def describe_bytes(size: float) -> str:
    """Write a number of bytes for people.

    >>> [describe_bytes(size) for size in (0, 999, 8640, 12_345_678, 3.2e9)]
    ['0 bytes', '999 bytes', '8.6 kB', '12.3 MB', '3.2 GB']
    """
    if size < 1000:
        return f"{size:.0f} bytes"
    for unit in ("kB", "MB"):
        size /= 1000
        if size < 999.95:
            return f"{size:.1f} {unit}"
    return f"{size / 1000:,.1f} GB"
