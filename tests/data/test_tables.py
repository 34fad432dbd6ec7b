"""Tables: headers, columns by name, quoting, and every fault in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from unimo_paddle.data.records import Fault
from unimo_paddle.data.tables import read_table
from unimo_paddle.errors import UserError


def read(path: Path, content: str, **options):
    path.write_text(content, "utf-8")
    return read_table(path, dict, **{"required": ["text_a"], **options})


def test_header_names_the_columns(tmp_path: Path) -> None:
    rows = read(tmp_path / "x.tsv", "label\ttext_a\n1\ta film\n0\tno\n")
    assert rows.records == [{"label": "1", "text_a": "a film"}, {"label": "0", "text_a": "no"}]


def test_given_columns_replace_the_header_and_leave_some_out(tmp_path: Path) -> None:
    rows = read(tmp_path / "x.tsv", "gj04\t1\tit is\n", columns=["_", "label", "text_a"])
    assert rows.records == [{"label": "1", "text_a": "it is"}]


def test_tabs_know_no_quotes(tmp_path: Path) -> None:
    rows = read(tmp_path / "x.tsv", 'text_a\n"open and\n')
    assert rows.records == [{"text_a": '"open and'}]


def test_commas_know_quotes(tmp_path: Path) -> None:
    rows = read(tmp_path / "x.csv", 'text_a,label\n"one, two",3\n')
    assert rows.records == [{"text_a": "one, two", "label": "3"}]


def test_white_space_within_a_cell_is_kept(tmp_path: Path) -> None:
    assert read(tmp_path / "x.tsv", "text_a\n a \n").records == [{"text_a": " a "}]


def test_empty_lines_are_passed_over(tmp_path: Path) -> None:
    assert len(read(tmp_path / "x.tsv", "text_a\na\n\nb\n")) == 2


def test_windows_line_ends_and_a_byte_order_mark_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "x.tsv"
    path.write_bytes(b"\xef\xbb\xbftext_a\tlabel\r\na\t1\r\n")
    rows = read_table(path, dict, required=["text_a"])
    assert rows.records == [{"text_a": "a", "label": "1"}]


FAULTY_ROWS = {
    "too few cells": ("text_a\tlabel\na\t1\nb\n", "3: 1 cells for the 2 columns text_a, label"),
    "too many cells": ("text_a\na\nb\tc\n", "3: 2 cells for the 1 columns"),
    "doubled id": ("text_a\tqid\na\t7\nb\t7\n", "3: qid '7' occurred before"),
}


@pytest.mark.parametrize("case", FAULTY_ROWS)
def test_a_row_that_cannot_be_used_is_left_out_and_named(tmp_path: Path, caplog, case: str) -> None:
    content, message = FAULTY_ROWS[case]
    rows = read(tmp_path / "x.tsv", content)
    assert len(rows) == 1
    assert message in str(rows.rejected[0])
    assert caplog.messages[-1].endswith("of 2 records; the others are numbered without them")


def test_a_quote_that_never_ends_is_named(tmp_path: Path) -> None:
    rows = read(tmp_path / "x.csv", 'text_a\na\n"b\n')
    assert "no row of comma separated values" in str(rows.rejected[0])


def test_what_the_task_refuses_is_named_with_its_line(tmp_path: Path) -> None:
    def parse(row):
        if row["text_a"] == "bad":
            raise Fault("label 'x' is none of 0, 1")
        return row

    path = tmp_path / "x.tsv"
    path.write_text("text_a\na\nbad\n")
    rows = read_table(path, parse, required=["text_a"])
    assert str(rows.rejected[0]) == f"{path}:3: label 'x' is none of 0, 1"


UNUSABLE = {
    "a missing column": ("label\n1\n", "has the columns label but no text_a"),
    "a doubled column": ("text_a\ttext_a\na\tb\n", "names column text_a twice"),
    "nothing": ("", "no header line"),
    "a header alone": ("text_a\n", "holds no records"),
}
MALFORMED_HEADERS = {
    "a quote that never ends": (b'label,"text_a\n1,a\n', "no row of comma separated values"),
    "other bytes than text": (b"label,text_\xff\n1,a\n", "line is not UTF-8 text"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_a_table_that_cannot_be_used_is_told_in_one_line(tmp_path: Path, case: str) -> None:
    content, message = UNUSABLE[case]
    with pytest.raises(UserError, match=message) as caught:
        read(tmp_path / "x.tsv", content)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("case", MALFORMED_HEADERS)
def test_a_header_that_cannot_be_read_is_named_with_its_line(tmp_path: Path, case: str) -> None:
    content, message = MALFORMED_HEADERS[case]
    path = tmp_path / "x.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read_table(path, dict, required=["text_a"])
    assert str(caught.value).startswith(f"{path}:1: ") and "\n" not in str(caught.value)


def test_given_columns_are_named_once_but_for_those_left_out(tmp_path: Path) -> None:
    content = "x\ty\ta\tb\n"
    columns = ["_", "_", "text_a", "text_a"]
    with pytest.raises(UserError, match=r"task\.data\.columns names column text_a twice; rename"):
        read(tmp_path / "x.tsv", content, columns=columns)
    rows = read(tmp_path / "x.tsv", content, columns=[*columns[:3], "label"])
    assert rows.records == [{"text_a": "a", "label": "b"}]


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read: No such file"):
        read_table(tmp_path / "x.tsv", dict, required=[])
