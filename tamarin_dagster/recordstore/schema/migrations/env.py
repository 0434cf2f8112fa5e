"""Alembic's entry: runs the versions on the connection that `database.migrate` hands over.

To change a table, change `schema/tables.py` or its neighbours and add a file under versions/ whose SQL does the
same to an existing database; then set SCHEMA_REVISION. A test compares the two. A migration is history: it imports
nothing of this package and reads no file, since both may change later; views are no concern of it (see
`schema/repeatable.py`). Nobody changes a released migration; test_upgrades.py has a digest of each. There are no
downgrades: the way back is a copy of the database.
"""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
