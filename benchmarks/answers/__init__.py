"""Benchmarks of answers from the records."""
