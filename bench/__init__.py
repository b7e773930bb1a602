"""Benchmarks of the machine, the store and its snapshots: each file asks one question and measures the answer."""
