"""The apparatus that benchmarks share: servers, clients, load, data, and the operating system's own forks."""
