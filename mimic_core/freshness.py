"""Freshness: whether the content of a table is newer than a limit of days, and how that is said."""

SECONDS_PER_DAY = 86_400


def is_stale(changed_at: float, now: float, days: int | None) -> bool:
    """Tell whether what changed last at one time is too old at another, in seconds since 1970; never without a limit.

    >>> is_stale(0, 7 * 86_400, 7), is_stale(0, 7 * 86_400 + 1, 7), is_stale(0, 1e9, None)
    (False, True, False)
    """
    return days is not None and now - changed_at > days * SECONDS_PER_DAY


def age_in_days(changed_at: float, now: float) -> float:
    """Return how many days ago something changed, 0 for what lies ahead.

    >>> age_in_days(0, 129_600)
    1.5
    """
    return max(0.0, now - changed_at) / SECONDS_PER_DAY


def say_freshness(age: float, days: int | None) -> str:
    """Say how old some content is, in days, and which limit it keeps or not.

    >>> say_freshness(8.04, 7)
    'changed 8.0 days ago; expected within 7 days'
    """
    limit = "no limit is set" if days is None else f"expected within {days:,} days"
    return f"changed {age:,.1f} days ago; {limit}"
