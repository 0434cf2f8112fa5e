"""Changes to Dagster's own classes. dagster.yaml names the classes; each module says which behaviour it works around.

`instance_storage`: dagster-postgres connects again for each statement. If two runs create the same pool at the same
time, one of them fails.
`run_launcher`: run monitoring cannot ask Dagster's DefaultRunLauncher whether a run's process is still alive.
`celery_run_launcher`, `celery_worker`: run monitoring cannot ask the launcher of dagster-celery either, and its default
configuration loses runs.

When a new Dagster version no longer needs a class, tamarin_dagster_tests/upstream/test_patches.py fails and names it.
Every class is optional: the dagster.yaml files have Dagster's own class in a comment.
"""
