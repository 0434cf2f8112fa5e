"""Answer questions about the records: rollups, dimensions, anomalies, top talkers and the report."""
