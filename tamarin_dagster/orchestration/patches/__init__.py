"""What we change about Dagster's own classes, each for a behaviour that its module names. dagster.yaml names them.

`instance_storage`: dagster-postgres connects again for each statement, and two runs that create one pool at once fail.
`run_launcher`: run monitoring cannot ask Dagster's DefaultRunLauncher whether a run's process is still alive.
`celery_run_launcher`, `celery_worker`: nor can it ask dagster-celery's launcher, whose configuration loses runs.

tamarin_dagster_tests/upstream/test_patches.py fails as soon as Dagster behaves otherwise, and says which class can go.
The stock classes stand as comments in the dagster.yaml files: all of these can be left out.
"""
