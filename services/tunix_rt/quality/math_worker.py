"""The worker process of `math_equality`: says whether two expressions are equal. It may be killed at any time."""

from __future__ import annotations

import logging
import sys
from typing import Any

from tunix_rt.untrusted.child import connect, refuse, serve

# Decimal places at which a decimal equals a root or π. The default of 6 would accept 1.414214 for √2.
_PLACES, _PRECISION = 12, 30


def main() -> int:
    """Answer requests until the connection ends."""
    connection = connect()
    try:
        from math_verify import parse, verify
    except ImportError as error:
        refuse(connection, str(error))
        return 3
    logging.disable()
    # The first call loads grammars and tables; it must not use up the first answer's time.
    verify(parse("$x + x$", parsing_timeout=None), parse("$2x$", parsing_timeout=None), timeout_seconds=None)

    def equal(expected: str, answer: str) -> dict[str, Any]:
        try:
            # The parent enforces the time-out; math-verify's own time-outs are off.
            left, right = (parse(_delimited(text), parsing_timeout=None) for text in (expected, answer))
            found = (
                bool(left)
                and bool(right)
                and verify(left, right, float_rounding=_PLACES, numeric_precision=_PRECISION, timeout_seconds=None)
            )
        except Exception as error:
            # Any error of sympy or a grammar means that the text is not the expected expression.
            return {"equal": False, "error": f"{type(error).__name__}: {error}"[:500]}
        return {"equal": bool(found)}

    serve(connection, {"equal": equal})
    return 0


def _delimited(text: str) -> str:
    return text if "$" in text or "\\boxed" in text or "\\(" in text or "\\[" in text else f"${text}$"


if __name__ == "__main__":
    sys.exit(main())
