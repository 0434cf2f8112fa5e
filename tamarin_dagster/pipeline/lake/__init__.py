"""What goes into a lake, and what is compared with it. Knows nothing of Dagster.

`archiving` writes delivery days from Postgres, `loading` loads them from the log bucket with Spark, whose executors run
`tasks`; `comparing` compares the lake's ledger with the one in Postgres.
"""
