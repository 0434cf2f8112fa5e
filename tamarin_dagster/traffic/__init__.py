"""What requests add up to: each figure is defined here once, and sums of records are made, merged and stored here.

`operations`, `unbilled` and `requesters` say what a record means: its class, what is billed, who asked.
`measures` applies that to a DataFrame of records, `sums` adds the measures up by each dimension, `times` keeps response
times as a histogram, and `parts` turns sums into bytes. Nothing here knows Postgres or Dagster.
"""
