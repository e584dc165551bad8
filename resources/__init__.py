"""Where bytes live and where work runs: tables, artefacts, specs, environments. No arithmetic, no asset names."""
