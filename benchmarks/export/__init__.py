"""How fast records go out, beside psql's own way of it."""
