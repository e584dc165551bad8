"""Run tags: the names of those by which commands, sensors and builds know runs. Nothing is imported here."""

HIDDEN = ".dagster/mimic-"  # tags that begin so are for programs: Dagster keeps them off its pages
PARTITION = "dagster/partition"  # tag: the key of the partition that a run builds, which Dagster sets too
BUILD = "mimic/build"  # tag: asset:key, of which the queue runs one at a time
WILL_RETRY = "dagster/will_retry"  # tag: whether Dagster launches a run that failed anew
LAUNCH = f"{HIDDEN}launch"  # tag: the command that a run belongs to
POSTED = f"{HIDDEN}posted"  # tag: the command that posted what a run registers
USER = "mimic/user"  # tag: who asked for a run from elsewhere, as that person said
