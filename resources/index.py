"""The index: what was read from files and tables before, by name and stamp, so that nothing is parsed twice.

It holds nothing that cannot be read again: one that is lost, damaged or not writable costs time, and nothing else.
"""

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import dagster as dg

FORMAT = 3  # bump when any facts that are kept here change
BUSY_SECONDS = 5.0
PASSING = "passing"

Facts = dict[str, Any]


class Index(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Facts by kind and name, in one SQLite file."""

    path: str

    def facts(self, kind: str, stamps: Mapping[str, str], read: Callable[[str], Facts]) -> dict[str, Facts]:
        """Return the facts of every name, and forget the names of this kind that are not given.

        Args:
            kind: what the names are of.
            stamps: name -> a text that is another one whenever the facts may be.
            read: gives the facts of a name as plain values; it is called where the stamp is new. Facts with an `error`, and
                those that are `passing` because they belong to another stamp, are not kept.
        """
        kept = self._kept(kind)
        found = {name: kept[name][1] for name, stamp in stamps.items() if name in kept and kept[name][0] == stamp}
        new = {name: read(name) for name in stamps if name not in found}
        gone = kept.keys() - stamps.keys()
        lasting = {
            name: (stamps[name], facts) for name, facts in new.items() if not (facts.get("error") or facts.get(PASSING))
        }
        if lasting or gone:
            self._keep(kind, lasting, gone)
        return {name: found[name] if name in found else new[name] for name in stamps}

    def _kept(self, kind: str) -> dict[str, tuple[str, Facts]]:
        try:
            with self._opened() as connection:
                rows = connection.execute("SELECT name, stamp, facts FROM facts WHERE kind = ?", (kind,)).fetchall()
            # one call parses all of them several times faster than one call each
            facts = json.loads(f"[{','.join(text for _, _, text in rows)}]")
            return {name: (stamp, said) for (name, stamp, _), said in zip(rows, facts, strict=True)}
        except (sqlite3.OperationalError, OSError):
            return {}  # locked for long, or it cannot be made
        except (sqlite3.DatabaseError, ValueError, TypeError):
            with suppress(OSError):
                Path(self.path).unlink(missing_ok=True)  # damaged: it is made anew
            return {}

    def _keep(self, kind: str, new: Mapping[str, tuple[str, Facts]], gone: set[str]) -> None:
        with suppress(sqlite3.Error, OSError), self._opened() as connection, connection:
            connection.executemany("DELETE FROM facts WHERE kind = ? AND name = ?", [(kind, name) for name in gone])
            connection.executemany(
                "INSERT OR REPLACE INTO facts VALUES (?, ?, ?, ?)",
                [(kind, name, stamp, json.dumps(facts)) for name, (stamp, facts) in new.items()],
            )

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        Path(self.path).parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self.path, timeout=BUSY_SECONDS)) as connection:
            if connection.execute("PRAGMA user_version").fetchone() != (FORMAT,):
                with connection:
                    connection.execute("DROP TABLE IF EXISTS facts")
                    connection.execute(
                        "CREATE TABLE facts (kind TEXT, name TEXT, stamp TEXT, facts TEXT, PRIMARY KEY (kind, name))"
                    )
                    connection.execute(f"PRAGMA user_version = {FORMAT}")
            yield connection
