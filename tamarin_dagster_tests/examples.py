"""The number of examples of a property, by hypothesis' profile.

make test         # the profile `quick`: a quarter of what it asks for, at least 20
make test-slow    # the profile `full`: what it asks for
pytest tamarin_dagster_tests/logformat --hypothesis-profile=thorough --timeout=0    # 100,000 of each
"""

from hypothesis import HealthCheck, settings

_MIN_EXAMPLES = 20
_QUICK_SHARE = 4

# The profiles' own numbers count where a property asks for none.
settings.register_profile("quick", max_examples=25, deadline=None)
settings.register_profile("full", max_examples=100, deadline=None)
settings.register_profile("thorough", max_examples=100_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("quick")


def at_least(count: int) -> settings:
    """`count` examples in the profile `full`, fewer in `quick`, and those of the profile if they are more."""
    chosen = settings()
    if chosen.max_examples < settings.get_profile("full").max_examples:
        return settings(max_examples=max(count // _QUICK_SHARE, _MIN_EXAMPLES))
    return settings(max_examples=max(count, chosen.max_examples))
