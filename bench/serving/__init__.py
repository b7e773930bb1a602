"""Benchmarks of a server beside its rivals."""
