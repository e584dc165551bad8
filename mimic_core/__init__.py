"""The library: plain functions over Arrow tables, NumPy arrays and Keras models. No orchestrator, no storage, no clock."""
