"""Answers from the records: views, rollups, reports."""
