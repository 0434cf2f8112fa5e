"""The demo: a media site with an invented access log, as lines, as files, and as an S3 endpoint that keeps delivering.

The endpoint needs the extra `demo` (moto), so it is not imported here: see `tamarin_dagster.demo.endpoint`.
"""

from tamarin_dagster.demo.log_lines import make_hour_lines, make_lines_between
from tamarin_dagster.demo.site import DemoSite
from tamarin_dagster.demo.writing import WrittenLogKeys, write_log_keys

__all__ = ["DemoSite", "WrittenLogKeys", "make_hour_lines", "make_lines_between", "write_log_keys"]
