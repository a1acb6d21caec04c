"""The worker process of `math_equality`: says whether two formulas are equal. It may be killed at any time."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from tunix_rt.untrusted.child import connect, refuse, serve

# Decimal places at which a decimal equals a root or π. The default of 6 would accept 1.414214 for √2.
_PLACES, _PRECISION = 12, 30
# Calls of functions, in Python and in C: the same on every machine, however busy it is. About ten seconds.
_MAX_CALLS: Final = 20_000_000


class _Exhausted(BaseException):
    """The budget is used up. No `Exception`: sympy catches those."""


def main() -> int:
    """Answer requests until the connection ends."""
    connection = connect()
    try:
        from antlr4 import Token
        from latex2sympy2_extended.latex2sympy2 import _Latex2Sympy
        from math_verify import verify
        from sympy.core.cache import clear_cache
    except ImportError as error:
        refuse(connection, str(error))
        return 3
    logging.disable()

    def parsed(text: str) -> Any:
        """The expression that all of ``text`` is; None if the grammar stops before its end."""
        reader = _Latex2Sympy()
        created: list[Any] = []
        make = reader.create_parser

        def create(latex: str) -> Any:
            created.append(make(latex))
            return created[-1]

        reader.create_parser = create
        found = reader.parse(text)
        return found if created[-1].getTokenStream().LA(1) == Token.EOF else None

    def equal(expected: str, answer: str, max_calls: int = _MAX_CALLS) -> dict[str, Any]:
        # What an earlier request left in the cache would change how many calls this one takes.
        clear_cache()
        try:
            with _budget(max_calls):
                left, right = parsed(expected), parsed(answer)
                if left is None or right is None:
                    return {"equal": False}
                found = verify(
                    [left], [right], float_rounding=_PLACES, numeric_precision=_PRECISION, timeout_seconds=None
                )
        except _Exhausted:
            return {"exhausted": max_calls}
        except Exception as error:
            # Any error of sympy or a grammar means that the text is not the expected expression.
            return {"equal": False, "error": f"{type(error).__name__}: {error}"[:500]}
        return {"equal": bool(found)}

    # The first call loads grammars and tables; it must not use up the first answer's time.
    equal("x + x", "2x")
    serve(connection, {"equal": equal})
    return 0


@contextmanager
def _budget(calls: int) -> Iterator[None]:
    """Raises `_Exhausted` in the block once it has called functions ``calls`` times."""
    left = calls

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            sys.setprofile(None)
            raise _Exhausted

    sys.setprofile(count)
    try:
        yield
    finally:
        sys.setprofile(None)


if __name__ == "__main__":
    sys.exit(main())
