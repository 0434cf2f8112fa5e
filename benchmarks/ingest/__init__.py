"""Benchmarks of loading: seconds, memory, requests and CPU time, each with a named baseline of the same run."""
