"""Pull the bucket of the settings in a process that has imported everything: `python -m benchmarks.ingest.pulling`.

It prints the number of loaded objects, and the seconds that the pull reports. Imports and the loading of compiled code
are not counted.
"""

import json

from tamarin_dagster.logstore.opening import open_log_store
from tamarin_dagster.pipeline.pull import pull_bucket
from tamarin_dagster.recordstore.database import open_database
from tamarin_dagster.recordstore.loading import compile_all
from tamarin_dagster.settings import load_settings


def main() -> None:
    """Pulls once."""
    settings = load_settings()
    (bucket,) = settings.buckets
    store, engine = open_log_store(bucket), open_database(settings)
    compile_all()
    pulled = pull_bucket(bucket, store, engine, connections=settings.load_connections)
    print(json.dumps({"objects": sum(day.keys for day in pulled.periods), "seconds": pulled.seconds}))


if __name__ == "__main__":
    main()
