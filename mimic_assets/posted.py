"""Posted: the names that a command elsewhere and this code location share. Nothing of Dagster is imported here."""

from importlib.metadata import version

from mimic_core.errors import SpecError
from mimic_core.specs import PARTITION_SPECS, PartitionSpec, ReportSpec

PROTOCOL = 2  # to be raised when what commands ask, post or read changes
REGISTERS = "register_specs"  # the job that registers what is posted
STEP = "register_posted_specs"  # its one step
ANSWERS = "answer_commands"  # the sensor whose dry runs answer questions
REGISTERED = "registered"  # metadata of the step's output: what a command must know to go on, as JSON
CANCELS = 25  # runs that one answer or tick cancels, which in a cluster takes some requests each and 60 seconds at most
KINDS: tuple[type[PartitionSpec], ...] = (*PARTITION_SPECS, ReportSpec)
SPECS = {kind.asset: kind for kind in KINDS}


def require_protocol(found: object) -> None:
    """Check that a command asks and posts as this code location reads.

    Raises:
        SpecError: it does so in another version.
    """
    if found != PROTOCOL:
        raise SpecError(
            f"this server has mimic {version('mimic')}, where commands ask in version {PROTOCOL}, and this command asked in "
            f"version {found}; install the same mimic on both sides"
        )
