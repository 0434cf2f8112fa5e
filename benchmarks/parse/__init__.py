"""How fast the parser reads, and what it loses, beside other ways to read the same lines on the same core."""
