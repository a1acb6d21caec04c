"""Lines that say how far long work is."""

from __future__ import annotations

import pytest

from tunix_rt.cli.progress import Counted


def test_long_work_says_on_standard_error_how_far_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    told = Counted("scored", 3, seconds=0)
    told(1)
    told(3)
    assert capsys.readouterr() == ("", "scored 1 of 3\nscored 3 of 3\n")


def test_short_work_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    Counted("scored", 1)(1)
    assert capsys.readouterr() == ("", "")
