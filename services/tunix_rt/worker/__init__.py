"""One worker for every kind of job: claim, heartbeats, cancellation, one completion.

A service gives one coroutine, ``carry_out(claim, stop) -> Ending``; see `jobs.CarryOut`.
"""
