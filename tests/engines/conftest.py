"""What is here but no test of this environment."""

collect_ignore = ["read_tables.py"]  # it imports what only .venv-engines has
