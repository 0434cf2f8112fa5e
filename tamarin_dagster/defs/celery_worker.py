"""The former name of tamarin_dagster.orchestration.patches.celery_worker, for one release."""

import sys

from tamarin_dagster.orchestration.patches.celery_worker import main, worker_app

__all__ = ["main", "worker_app"]

if __name__ == "__main__":
    main(sys.argv[1:])
