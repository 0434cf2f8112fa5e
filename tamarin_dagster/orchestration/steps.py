"""Assets and checks whose function is the same for each bucket.

`dg.asset` inspects the parameters and annotations of its function for each asset. With a thousand buckets this takes
most of the time to load them, in the code server and in the process of each run. Here Dagster inspects a function once,
and each bucket gets an op with its own name and pool. The function finds its bucket by the keys of its context.
"""

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import dagster as dg

_NOTHING_IN, _NOTHING_OUT = dg.In(dg.Nothing), dg.Out(dg.Nothing)
_CHECK_OUT = dg.Out(is_required=True)
# The name that `dg.asset` gives to an asset's output.
_OUTPUT = "result"


class SharedStep:
    """A function that becomes an op for each bucket."""

    def __init__(self, function: Callable[..., Any]) -> None:
        # `inspect.signature` returns this attribute, and does not inspect the function again.
        function.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
        self._op = dg.op(out=_NOTHING_OUT)(function)

    def asset(
        self,
        spec: dg.AssetSpec,
        *,
        name: str,
        backfill_policy: dg.BackfillPolicy,
        retry_policy: dg.RetryPolicy,
        pool: str | None = None,
        check_specs: Sequence[dg.AssetCheckSpec] = (),
    ) -> dg.AssetsDefinition:
        """Return a bucket's asset, as `dg.asset` would. The function returns its MaterializeResult."""
        checks = {each.get_python_identifier(): each for each in check_specs}
        inputs = _inputs(dep.asset_key for dep in spec.deps)
        return dg.AssetsDefinition(
            node_def=self._make_op(
                name,
                inputs,
                {_OUTPUT: _NOTHING_OUT} | dict.fromkeys(checks, _CHECK_OUT),
                retry_policy=retry_policy,
                pool=pool,
            ),
            keys_by_input_name=inputs,
            keys_by_output_name={_OUTPUT: spec.key},
            specs=[spec],
            check_specs_by_output_name=checks,
            backfill_policy=backfill_policy,
        )

    def checks(self, specs: Sequence[dg.AssetCheckSpec], *, name: str, pool: str) -> dg.AssetChecksDefinition:
        """Return checks of a bucket, as `dg.multi_asset_check` would. The function yields their results."""
        checks = {each.get_python_identifier(): each for each in specs}
        inputs = _inputs({each.asset_key for each in specs})
        definition: dg.AssetChecksDefinition = dg.AssetChecksDefinition.create(
            node_def=self._make_op(name, inputs, dict.fromkeys(checks, _CHECK_OUT), pool=pool),
            keys_by_input_name=inputs,
            check_specs_by_output_name=checks,
            can_subset=False,
        )
        return definition

    def _make_op(
        self,
        name: str,
        inputs: Iterable[str],
        outs: dict[str, dg.Out],
        *,
        pool: str | None,
        retry_policy: dg.RetryPolicy | None = None,
    ) -> dg.OpDefinition:
        return dg.OpDefinition(
            compute_fn=self._op.compute_fn,
            name=name,
            ins=dict.fromkeys(inputs, _NOTHING_IN),
            outs=outs,
            required_resource_keys=self._op.required_resource_keys,
            retry_policy=retry_policy,
            pool=pool,
        )


def _inputs(keys: Iterable[dg.AssetKey]) -> dict[str, dg.AssetKey]:
    return {key.to_python_identifier(): key for key in keys}
