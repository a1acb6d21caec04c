"""Other people's files as evalsets, traces and predictions: read a row at a time, recognised, mapped, and nothing lost
without a word.

`sources` reads containers (JSONL, JSON, CSV, Parquet, Arrow, folders), `formats` knows what the rows of each benchmark
and tool look like, `evalset_file`, `trace_file` and `prediction_file` write what the platform reads.
"""
