"""Sensors: what observes and starts runs by itself, one per module; each reads, chooses by a pure function, and asks."""
