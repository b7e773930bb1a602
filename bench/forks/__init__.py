"""Benchmarks of branches, frozen stores, and the work that forks serve."""
