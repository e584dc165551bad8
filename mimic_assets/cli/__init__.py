"""The `mimic` command line: the only part that reads the environment and turns errors into exit codes."""
