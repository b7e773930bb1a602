"""Benchmarks of the paging machine by itself."""
