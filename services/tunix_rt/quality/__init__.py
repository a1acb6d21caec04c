"""What a score means: answers, traces, scorecards, comparisons, gates.

Pure: no I/O, no clock, no randomness without a seed. There are two exceptions. `math_equality` runs `math-verify` in a
subprocess; it is imported only when an item of type ``math`` is scored. `scorer_plugins` looks up the installed
third-party scorers when a process starts.
"""
