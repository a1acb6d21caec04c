"""The process that `math_equality` talks to: reads one JSON pair a line, writes one JSON verdict a line.

Owns nothing but the call into `math-verify`. It may be killed at any moment; memory is limited, so that a hostile
expression cannot take the evaluator with it.
"""

from __future__ import annotations

import json
import logging
import resource
import sys

_MEMORY_BYTES = 4 * 2**30
# A decimal stands for a root or for π only from so many places on: the default of 6 takes 1.414214 for √2.
_PLACES, _PRECISION = 12, 30


def main() -> int:
    """Answer pairs from standard input until it ends."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    try:
        from math_verify import parse, verify
    except ImportError as error:
        print(json.dumps({"unavailable": str(error)}), flush=True)
        return 3
    logging.disable()
    # Grammars and tables are loaded by the first call; it must not count against the first answer's time.
    verify(parse("$x + x$", parsing_timeout=None), parse("$2x$", parsing_timeout=None), timeout_seconds=None)
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        pair = json.loads(line)
        try:
            # The parent's clock is the only one: math-verify's own time-outs are off.
            expected, answer = (
                parse(_delimited(text), parsing_timeout=None) for text in (pair["expected"], pair["answer"])
            )
            equal = (
                bool(expected)
                and bool(answer)
                and verify(expected, answer, float_rounding=_PLACES, numeric_precision=_PRECISION, timeout_seconds=None)
            )
            reply: dict[str, object] = {"equal": bool(equal)}
        except Exception as error:
            # Whatever sympy or a grammar raises on a model's text means the same: it is not that expression.
            reply = {"equal": False, "error": f"{type(error).__name__}: {error}"[:500]}
        print(json.dumps(reply), flush=True)
    return 0


def _delimited(text: str) -> str:
    return text if "$" in text or "\\boxed" in text or "\\(" in text or "\\[" in text else f"${text}$"


if __name__ == "__main__":
    sys.exit(main())
