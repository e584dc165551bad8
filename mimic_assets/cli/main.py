"""The root of the command line: its commands, and what an error means for the exit code.

Nothing heavy is imported here: `mimic --help` answers at once.
"""

import sys
from typing import Any

import click

from mimic_assets.cli.doctor import doctor
from mimic_assets.cli.environment import dev, env
from mimic_assets.cli.log_odds import log_odds
from mimic_assets.cli.maintenance import gc, maintain
from mimic_assets.cli.plan import plan
from mimic_assets.cli.predict import predict
from mimic_assets.cli.rebuild import build, rebuild
from mimic_assets.cli.removal import remove
from mimic_assets.cli.report import report
from mimic_assets.cli.runs import runs
from mimic_assets.cli.servers import REMOTE, SERVER, USER, name_server, require_remote
from mimic_assets.cli.status import status
from mimic_assets.cli.tables import tables
from mimic_core.collecting import collect_seldom
from mimic_core.errors import ConflictError, DecisionTableError, MimicError, ServerError, StorageError, TrainingError

FAILED, WRONG_INPUT, INTERRUPTED = 1, 2, 130
HELP, HELP_NAMES = "mimic.help", {"-h", "--help"}  # whether a command is asked for its help only


class _Commands(click.Group):
    def invoke(self, context: click.Context) -> Any:
        context.meta[HELP] = not HELP_NAMES.isdisjoint(context.args)
        try:
            return super().invoke(context)
        except MimicError as error:
            click.echo(f"mimic: {error}", err=True)
            failed = isinstance(error, ConflictError | StorageError | DecisionTableError | TrainingError | ServerError)
            context.exit(FAILED if failed else WRONG_INPUT)
        except BrokenPipeError:
            raise  # whoever reads, such as `head`, has seen enough: click ends without a word
        except OSError as error:
            click.echo(f"mimic: {error}; check free space and rights, then run this again", err=True)
            context.exit(FAILED)
        except Exception as error:
            # the databases of the catalog and of Dagster, whose library is not imported here
            if type(error).__module__ != "sqlalchemy.exc":
                raise
            reason = getattr(error, "orig", None) or error
            click.echo(
                f"mimic: a database below MIMIC_HOME or DAGSTER_HOME, or that of MIMIC_CATALOG, cannot be used: {reason}; "
                "check that it runs, free space and rights",
                err=True,
            )
            context.exit(FAILED)
        except KeyboardInterrupt:
            click.echo("mimic: interrupted; what was published before is unchanged", err=True)
            context.exit(INTERRUPTED)


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": sorted(HELP_NAMES)},
    epilog="Exit codes: 0 done, 1 a run failed (also over rows that break a rule), 2 the input is wrong, 130 interrupted.",
)
@click.version_option(package_name="mimic")
@click.option(
    "--server",
    metavar="URL",
    help=f"Do it on the platform deployed there; {', '.join(REMOTE)} only. Default: {SERVER}; '' for this machine.",
)
@click.option("--user", metavar="NAME", help=f"Who asks there. Default: {USER}, or you@host.")
@click.pass_context
def main(context: click.Context, server: str | None, user: str | None) -> None:
    """Log-odds models from decision tables: tables, datasets, trained runs, inference tables.

    \b
    Example, from a table to its inferences:
      mimic tables import haven.example_log_odds_features features.parquet
      mimic log-odds build-dataset dataset.json
      mimic log-odds run-experiment experiment.json layers.py
      mimic log-odds run-batch-infer inference.json
      mimic status

    \b
    The same on a deployed platform, such as a cluster's:
      mimic --server https://dagster.example.org log-odds run-experiment experiment.json
      mimic --server https://dagster.example.org status --follow
    """
    # a doctor finds out by itself what is wrong with a server
    if context.invoked_subcommand != "doctor" and not context.meta[HELP]:
        context.obj = name_server(server, user)
        require_remote(context.obj, context.invoked_subcommand or "")
    collect_seldom()


tables.add_command(maintain)
tables.add_command(remove)
main.add_command(tables)
main.add_command(log_odds)
main.add_command(runs)
main.add_command(predict)
main.add_command(report)
main.add_command(status)
main.add_command(plan)
main.add_command(rebuild)
main.add_command(build)
main.add_command(gc)
main.add_command(env)
main.add_command(dev)
main.add_command(doctor)

if __name__ == "__main__":
    sys.exit(main())
