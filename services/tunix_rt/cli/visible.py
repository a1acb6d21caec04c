"""Makes control characters visible, so that names, answers and messages cannot steer the terminal that shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from rich.console import Console

# C0 has pictures in Unicode (␛ for escape); C1, and what turns the direction of text, are written as their number.
_PICTURES: Final = {code: chr(0x2400 + code) for code in range(0x20)} | {0x7F: "\u2421"}
_NUMBERED: Final = (*range(0x80, 0xA0), 0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_VISIBLE: Final[dict[int, str]] = _PICTURES | {code: f"<U+{code:04X}>" for code in _NUMBERED}
for _kept in "\n\t":
    del _VISIBLE[ord(_kept)]
# Within JSON's strings the same characters are written as escapes, which are the same value.
_IN_JSON: Final = {code: f"\\u{code:04x}" for code in (0x7F, *_NUMBERED)}


def visible(text: str) -> str:
    """``text`` with control characters but line feed and tab as pictures or numbers."""
    return text.translate(_VISIBLE)


def visible_json(text: str) -> str:
    """JSON text, in which characters that JSON does not escape by itself are escaped too."""
    return text.translate(_IN_JSON)


def safe_console(**options: Any) -> Console:
    """A console that sends its own control sequences only."""
    from rich.console import Console
    from rich.segment import Segment

    class SafeConsole(Console):
        def render(self, renderable: Any, options: Any = None) -> Any:
            for segment in super().render(renderable, options):
                if segment.control is None:
                    segment = Segment(visible(segment.text), segment.style)
                yield segment

    return SafeConsole(**options)
