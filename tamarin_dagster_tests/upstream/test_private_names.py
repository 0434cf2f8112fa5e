"""Each private name of Dagster's that tamarin_dagster uses, and what it relies on.

A new private name fails the first test until it has a row here: look for a public one first.
"""

import ast
import inspect
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa

import tamarin_dagster
from tamarin_dagster.orchestration import naming

PACKAGE = Path(tamarin_dagster.__file__).parent


def has_columns(*names: str) -> Callable[[sa.Table], bool]:
    return lambda table: set(names) <= set(table.c.keys())


def has_members(*names: str) -> Callable[[Any], bool]:
    return lambda found: set(names) <= set(dir(found))


def takes(*names: str) -> Callable[[Any], bool]:
    return lambda found: set(names) <= set(inspect.signature(found).parameters)


# Module, name: what we rely on.
IMPORTS: dict[tuple[str, str], Callable[[Any], bool]] = {
    ("dagster._core.errors", "DagsterUserCodeUnreachableError"): lambda found: issubclass(found, dg.DagsterError),
    ("dagster._core.execution.backfill", "BULK_ACTION_TERMINAL_STATUSES"): lambda found: (
        {each.value for each in found} == {"COMPLETED", "FAILED", "CANCELED", "COMPLETED_SUCCESS", "COMPLETED_FAILED"}
    ),
    ("dagster._core.launcher", "CheckRunHealthResult"): takes("status", "msg"),
    ("dagster._core.launcher", "DefaultRunLauncher"): has_members("check_run_worker_health", "launch_run", "terminate"),
    ("dagster._core.launcher", "WorkerStatus"): has_members("RUNNING", "NOT_FOUND", "UNKNOWN", "FAILED", "SUCCESS"),
    ("dagster._core.storage.compute_log_manager", "ComputeIOType"): has_members("STDERR"),
    ("dagster._core.storage.event_log.schema", "AssetCheckExecutionsTable"): has_columns("run_id"),
    ("dagster._core.storage.event_log.schema", "ConcurrencyLimitsTable"): has_columns("concurrency_key", "limit"),
    ("dagster._core.storage.event_log.schema", "SqlEventLogStorageTable"): has_columns("run_id", "dagster_event_type"),
    ("dagster._core.storage.noop_compute_log_manager", "NoOpComputeLogManager"): inspect.isclass,
    ("dagster._core.storage.runs.schema", "BulkActionsTable"): has_columns("key", "status"),
    ("dagster._core.storage.runs.schema", "RunTagsTable"): has_columns("run_id", "key", "value"),
    ("dagster._core.storage.runs.schema", "RunsTable"): has_columns(
        *("id", "run_id", "status", "update_timestamp", "end_time", "backfill_id")
    ),
    ("dagster._core.storage.schedules.schema", "JobTickTable"): has_columns("id", "timestamp"),
    ("dagster._grpc.types", "CanCancelExecutionRequest"): has_members("run_id"),
    ("dagster._grpc.types", "CanCancelExecutionResult"): has_members("can_cancel"),
    ("dagster._serdes", "ConfigurableClassData"): inspect.isclass,
    ("dagster._serdes", "deserialize_value"): callable,
}

# Class, private attribute that a subclass of ours uses or overrides.
ATTRIBUTES = {
    ("dagster_celery.launcher", "CeleryRunLauncher", "_launch_celery_task_run"),
    ("dagster._core.launcher", "DefaultRunLauncher", "_get_grpc_client_for_termination"),
    ("dagster._core.launcher", "RunLauncher", "_instance"),
    ("dagster_postgres.event_log", "PostgresEventLogStorage", "_allocate_concurrency_slots"),
    ("dagster_postgres.event_log", "PostgresEventLogStorage", "_reconcile_concurrency_limits_from_slots"),
}

# Ours, Dagster's module and name: the same value.
VALUES = [
    ("PRIORITY_TAG", "dagster._core.storage.tags", "PRIORITY_TAG"),
    ("RUN_KEY_TAG", "dagster._core.storage.tags", "RUN_KEY_TAG"),
    ("RANGE_START_TAG", "dagster._core.storage.tags", "ASSET_PARTITION_RANGE_START_TAG"),
    ("RANGE_END_TAG", "dagster._core.storage.tags", "ASSET_PARTITION_RANGE_END_TAG"),
    ("REPOSITORY_TAG", "dagster._core.storage.tags", "REPOSITORY_LABEL_TAG"),
    ("PARENT_RUN_TAG", "dagster._core.storage.tags", "PARENT_RUN_ID_TAG"),
    ("ROOT_RUN_TAG", "dagster._core.storage.tags", "ROOT_RUN_ID_TAG"),
    ("FINISHED", "dagster._core.storage.dagster_run", "FINISHED_STATUSES"),
    ("UNFINISHED", "dagster._core.storage.dagster_run", "NOT_FINISHED_STATUSES"),
]


def trees() -> Iterator[ast.Module]:
    for path in sorted(PACKAGE.rglob("*.py")):
        text = path.read_text("utf-8")
        if "dagster" in text:
            yield ast.parse(text)


def is_private(module: str) -> bool:
    first, *rest = module.split(".")
    return first.startswith("dagster") and any(part.startswith("_") for part in rest)


def private_imports(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            for each in node.names:
                if is_private(f"{node.module}.{each.name}"):
                    yield node.module, each.name
        elif isinstance(node, ast.Import):
            yield from ((each.name, "") for each in node.names if is_private(each.name))


def private_attributes(tree: ast.Module) -> Iterator[str]:
    """Private attributes that the module uses and does not define itself, if it knows Dagster."""
    if not any(
        isinstance(node, ast.ImportFrom | ast.Import) and "dagster" in {*names_of(node)} for node in ast.walk(tree)
    ):
        return
    defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    defined |= {
        node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
    }
    defined |= {
        node.target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            is_super = isinstance(node.value, ast.Call) and getattr(node.value.func, "id", "") == "super"
            if is_super or node.attr not in defined:
                yield node.attr


def names_of(node: ast.ImportFrom | ast.Import) -> Iterator[str]:
    """The first parts of the imported modules; `dagster` for its libraries too."""
    modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else [each.name for each in node.names]
    for module in modules:
        first = module.split(".")[0]
        yield "dagster" if first.startswith("dagster") else first


def test_each_private_name_that_is_used_has_a_row_and_each_row_is_used() -> None:
    used = {found for tree in trees() for found in private_imports(tree)}
    assert used == set(IMPORTS)


def test_each_private_attribute_that_is_used_has_a_row_and_each_row_is_used() -> None:
    used = {found for tree in trees() for found in private_attributes(tree)}
    assert used == {name for _, _, name in ATTRIBUTES}


@pytest.mark.parametrize(("module", "name"), sorted(IMPORTS))
def test_a_private_name_is_what_we_rely_on(module, name) -> None:
    assert IMPORTS[module, name](getattr(import_module(module), name))


@pytest.mark.parametrize(("module", "owner", "name"), sorted(ATTRIBUTES))
def test_a_private_attribute_is_still_there(module, owner, name) -> None:
    found = getattr(import_module(module), owner)
    text = "".join(inspect.getsource(each) for each in found.__mro__ if each.__module__.startswith("dagster"))
    assert hasattr(found, name) or f"self.{name}" in text


@pytest.mark.parametrize(("ours", "module", "name"), VALUES)
def test_our_constants_have_the_values_of_dagsters(ours, module, name) -> None:
    expected, found = getattr(import_module(module), name), getattr(naming, ours)
    assert found == expected if isinstance(found, str) else set(found) == set(expected)
