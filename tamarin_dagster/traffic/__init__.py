"""Define each figure of traffic once, and compute, merge and pack the sums of records.

`operations`, `unbilled` and `requesters` define what a record means: its class, its billing, its requester.
`measures` applies that to a table of records, `sums` adds the measures up by each dimension, `times` keeps response
times as a histogram, and `parts` turns sums into bytes. Nothing here knows Postgres or Dagster.
"""
