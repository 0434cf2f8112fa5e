"""How loading spreads over workers."""
