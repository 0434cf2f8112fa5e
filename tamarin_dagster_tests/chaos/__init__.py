"""Faults of every kind, and what is left afterwards: the same tables and the same log bucket as without them."""
