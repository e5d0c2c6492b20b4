"""Reports: what a command found out, as JSON with a published schema and as pages for people."""

from .read import read_report
from .records import Report
from .write import write_report

__all__ = ["Report", "read_report", "write_report"]
