from __future__ import annotations

from pathlib import Path

import pytest

from tunix_rt.errors import FailedPrecondition
from tunix_rt.rpc import token_file
from tunix_rt.rpc.settings import ServerSettings
from tunix_rt.rpc.token_file import TokenFile, current_token


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_file, "LOOK_SECONDS", 0.0)


@pytest.mark.usefixtures("at_once")
def test_a_token_is_read_again_when_its_file_changes(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("first\nformer\n")
    source = TokenFile(path)
    assert current_token(source) == "first"
    replacement = tmp_path / "new"
    replacement.write_text("second")
    replacement.replace(path)
    assert current_token(source) == "second"


@pytest.mark.usefixtures("at_once")
def test_what_cannot_be_read_is_an_error_at_first_and_later_keeps_the_former_token(tmp_path: Path) -> None:
    path = tmp_path / "token"
    with pytest.raises(FailedPrecondition, match="cannot be read"):
        TokenFile(path)()
    path.write_text(" \n")
    with pytest.raises(FailedPrecondition, match="holds no token"):
        TokenFile(path)()
    path.write_text("first")
    source = TokenFile(path)
    assert source() == "first"
    path.write_text("")
    assert source() == "first"
    path.unlink()
    assert source() == "first"


def test_the_file_takes_precedence_over_the_variable(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("of-the-file")
    assert ServerSettings(token="of-the-variable", token_file=path).token_text == "of-the-file"  # type: ignore[arg-type]
    assert ServerSettings(token="of-the-variable").token_text == "of-the-variable"  # type: ignore[arg-type]
    assert ServerSettings().token_text is None
