"""Benchmarks of collections, streams and the other types."""
