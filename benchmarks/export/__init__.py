"""The benchmark of exports, compared with psql."""
