"""A lake of records: Parquet files of one schema, and Apache Iceberg tables over them. Knows nothing of Dagster.

`schema` defines the columns, `parquet` writes the files, `place` names the lake of the settings, `tables` keeps the
Iceberg tables and replaces delivery days in them, `query` answers SQL with DuckDB. The last two need the extra `lake`.
"""
