"""The counting behind ``docs/design/house.md``."""

from pathlib import Path

import pytest

from tools.house import Source, circles, code_lines, main, table


def test_code_lines_are_without_prose() -> None:
    text = '"""Doc.\n\nMore.\n"""\n\n# comment\nx = (\n    1,  # one\n)\n\n\n'
    text += 'def f():\n    """Doc."""\n    return """a\nb"""\n'
    assert code_lines(text) == 6


def test_circles_are_found_wherever_the_import_stands() -> None:
    texts = {
        "a": "from zarrdock import b",
        "b": "def f():\n    from zarrdock.c.d import x",
        "c.d": "import zarrdock.a",
        "e": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from zarrdock.f import y",
        "f": "from zarrdock.e import z",
        "g": "from zarrdock.a import name_in_a",
    }
    assert circles(texts) == [("a", "b", "c.d")]


def test_this_checkout_is_counted_and_imports_in_no_circle(repository: Path) -> None:
    source = Source.of(repository)
    assert {"__init__", "stores.base", "array.array", "cli.main"} <= set(source.texts)
    rows = source.measures()
    assert int(rows["files"]) == len(source.texts)
    assert "import circles" in rows
    assert circles(source.texts) == []


def test_the_table_has_a_row_for_all_that_any_column_has() -> None:
    assert table({"before": {"a": "1"}, "now": {"a": "2", "b": "3"}}).splitlines()[2:] == [
        "| a | 1 | 2 |",
        "| b | – | 3 |",
    ]


def test_the_page_needs_its_marks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tools.house.measure", lambda _: {"files": "1"})
    page = tmp_path / "house.md"
    page.write_text("no marks")
    with pytest.raises(SystemExit):
        main([str(page)])
    assert "no lines" in capsys.readouterr().err
    page.write_text("# x\n<!-- house: begin -->\nold\n<!-- house: end -->\nafter\n")
    assert main([str(page)]) == 0
    assert page.read_text().splitlines()[3:] == [
        "| | now |",
        "|---|---|",
        "| files | 1 |",
        "",
        "<!-- house: end -->",
        "after",
    ]
