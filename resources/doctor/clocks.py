"""Clocks: whether that of this machine is right, by what servers said."""

from collections.abc import Iterator, Mapping

from resources.doctor.findings import Finding, ok, skipped, warning, wrong

ABOUT = "clock"
MUCH, TOO_MUCH = 60, 300  # seconds; S3 refuses what is 15 minutes off
DO = "set the clock of this machine, such as by NTP: `timedatectl set-ntp true`; S3 refuses requests that are 15 minutes off"


def clock(ahead: Mapping[str, float]) -> Iterator[Finding]:
    """Compare this machine's clock with those of servers.

    Args:
        ahead: how many seconds these are ahead, by the server.

    >>> [finding.found for finding in clock({"S3": 0.2, "STS": -400.0})]
    ['400 seconds ahead of STS']
    """
    if not ahead:
        yield skipped(ABOUT, "no server was asked, so there is none to compare it with")
        return
    server, most = max(ahead.items(), key=lambda each: abs(each[1]))
    found = f"{abs(most):,.0f} seconds {'behind' if most > 0 else 'ahead of'} {server}"
    if abs(most) > TOO_MUCH:
        yield wrong(ABOUT, found, DO)
    elif abs(most) > MUCH:
        yield warning(ABOUT, found, DO)
    else:
        yield ok(ABOUT, f"agrees with {', '.join(ahead)}")
