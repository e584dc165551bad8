"""Glue: the AWS Glue catalog, of which mimic sees only the databases that it is told."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pyiceberg.catalog.glue import GlueCatalog
from pyiceberg.exceptions import CommitFailedException, NoSuchIcebergTableError
from pyiceberg.typedef import EMPTY_DICT

from mimic_core.errors import SpecError
from resources.aws import client, iceberg_properties
from resources.plain_tables import is_iceberg, require_lower_case

if TYPE_CHECKING:
    from pyiceberg.table import Table
    from pyiceberg.typedef import Identifier, Properties


class Glue(GlueCatalog):
    """The Iceberg tables of some databases of Glue; a commit is an update of the version that was read."""

    def __init__(self, name: str, databases: Sequence[str], warehouse: str) -> None:
        super().__init__(name, client=client("glue"), warehouse=warehouse, **iceberg_properties())
        self._databases = list(databases)

    def list_namespaces(self, namespace: "str | Identifier" = ()) -> "list[Identifier]":
        """List the databases, whether they are made yet or not."""
        return [] if namespace else [(database,) for database in self._databases]

    def create_namespace(self, namespace: "str | Identifier", properties: "Properties" = EMPTY_DICT) -> None:
        """Make a database, if it is one of those to use.

        Raises:
            SpecError: it is none.
        """
        database = self.identifier_to_database(namespace)
        self._require_mine(database)
        try:
            self.glue.get_database(Name=database)  # first: a role may use databases that it may not make
        except self.glue.exceptions.EntityNotFoundException:
            super().create_namespace(namespace, properties)

    def list_tables(self, namespace: "str | Identifier") -> "list[Identifier]":
        """List the Iceberg tables of a database; none of one that is not made yet."""
        from pyiceberg.exceptions import NoSuchNamespaceError

        try:
            return super().list_tables(namespace)
        except NoSuchNamespaceError:
            return []

    def _get_glue_table(self, database_name: str, table_name: str) -> Any:
        require_lower_case(f"{database_name}.{table_name}")
        self._require_mine(database_name)
        return super()._get_glue_table(database_name, table_name)

    def _update_glue_table(self, database_name: str, table_name: str, table_input: Any, version_id: str) -> None:
        """Update the version that was read; a request whose answer was lost is made again, and finds its own update.

        pyiceberg would take that for a commit of others, and delete the files that the table names now.
        """
        try:
            super()._update_glue_table(database_name, table_name, table_input, version_id)
        except CommitFailedException:
            mine = table_input["Parameters"]["metadata_location"]
            present = self._convert_glue_to_iceberg(self._get_glue_table(database_name, table_name))
            if mine not in {present.metadata_location, *(entry.metadata_file for entry in present.metadata.metadata_log)}:
                raise

    def _convert_glue_to_iceberg(self, glue_table: Any) -> "Table":
        if not is_iceberg(glue_table):
            raise NoSuchIcebergTableError(f"{glue_table['DatabaseName']}.{glue_table['Name']} is no table of Iceberg")
        return super()._convert_glue_to_iceberg(glue_table)

    def _require_mine(self, database: str) -> None:
        if database not in self._databases:
            raise SpecError(
                f"database {database} is none that MIMIC_CATALOG names, which are {', '.join(self._databases)}; add it "
                "there, and to the rights of the role"
            )

    def close(self) -> None:
        """Do nothing: the connections are those of all clients."""
