"""Any text, and text that would like to be markup."""

from hypothesis import strategies as st

from tamarin_dagster_tests.analytics.report.months import HOSTILE

TEXTS = st.one_of(st.text(), st.sampled_from(HOSTILE), st.lists(st.sampled_from(HOSTILE)).map("".join))
