"""What a score means: answers, traces, scorecards, comparisons, gates.

Pure: no I/O, no clock, no randomness without a seed. Two exceptions: `math_equality`, which runs `math-verify` in a
subprocess that it can kill, and which is imported only when an item of type ``math`` is scored; and `scorer_plugins`,
which looks up what third-party scorers are installed, when a process starts.
"""
