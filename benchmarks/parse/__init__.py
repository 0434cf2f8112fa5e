"""Benchmarks of the parser: its speed and its errors, compared with other parsers on the same core."""
