"""The web log analysers of Debian read what we have read, and must come to the same numbers: `make test-peers`."""
