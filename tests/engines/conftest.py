"""What is here but no test of this environment."""

collect_ignore = ["read_tables.py", "read_tables_in_aws.py"]  # they import what only .venv-engines has
