"""The worker process of `math_equality`: reads one JSON pair per line, writes one JSON verdict per line.

It may be killed at any time. Its memory is limited, so a hostile expression cannot bring down the evaluator.
"""

from __future__ import annotations

import json
import logging
import resource
import sys

_MEMORY_BYTES = 4 * 2**30
# Decimal places at which a decimal equals a root or π. The default of 6 would accept 1.414214 for √2.
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
    # The first call loads grammars and tables; it must not use up the first answer's time.
    verify(parse("$x + x$", parsing_timeout=None), parse("$2x$", parsing_timeout=None), timeout_seconds=None)
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        pair = json.loads(line)
        try:
            # The parent enforces the time-out; math-verify's own time-outs are off.
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
            # Any error of sympy or a grammar means that the text is not the expected expression.
            reply = {"equal": False, "error": f"{type(error).__name__}: {error}"[:500]}
        print(json.dumps(reply), flush=True)
    return 0


def _delimited(text: str) -> str:
    return text if "$" in text or "\\boxed" in text or "\\(" in text or "\\[" in text else f"${text}$"


if __name__ == "__main__":
    sys.exit(main())
