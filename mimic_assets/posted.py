"""Posted: the names that a command elsewhere and this code location share. Nothing of Dagster is imported here."""

from mimic_core.specs import PARTITION_SPECS, PartitionSpec, ReportSpec

PROTOCOL = 1  # to be raised when what commands ask, post or read changes
REGISTERS = "register_specs"  # the job that registers what is posted
STEP = "register_posted_specs"  # its one step
ANSWERS = "answer_commands"  # the sensor whose dry runs answer questions
REGISTERED = "registered"  # metadata of the step's output: what a command must know to go on, as JSON
KINDS: tuple[type[PartitionSpec], ...] = (*PARTITION_SPECS, ReportSpec)
SPECS = {kind.asset: kind for kind in KINDS}
