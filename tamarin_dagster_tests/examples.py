"""How many examples a property is tried with: what it asks for, or more if hypothesis' profile wants more.

pytest                                                                        # as many as fit a run of CI
pytest tamarin_dagster_tests/logformat --hypothesis-profile=thorough --timeout=0    # 100,000 of each
"""

from hypothesis import HealthCheck, settings

settings.register_profile("usual", deadline=None)
settings.register_profile("thorough", max_examples=100_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("usual")


def at_least(count: int) -> settings:
    """`count` examples, or those of the profile if they are more."""
    return settings(max_examples=max(count, settings().max_examples))
