"""Tables of a report, as aligned text for a terminal and as Markdown for the documents."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Table:
    """Cells under headings.

    Attributes:
        text_columns: places of the columns that hold words and stand to the left.
    """

    headings: list[str]
    rows: list[list[str]] = field(default_factory=list)
    text_columns: tuple[int, ...] = ()


def as_text(table: Table) -> str:
    """Columns as wide as their longest cell."""
    lines = [table.headings, *table.rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(table.headings))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i in table.text_columns else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def as_markdown(table: Table) -> str:
    """A table of GitHub's Markdown."""
    marks = ["---" if i in table.text_columns else "---:" for i in range(len(table.headings))]
    lines = [table.headings, marks, *table.rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def without_repeats(rows: list[list[str]], *, columns: int) -> list[list[str]]:
    """Return the rows with the first columns blank where they say the same as the row above."""
    result = []
    for above, row in zip([None, *rows], rows, strict=False):
        is_same = above is not None and above[:columns] == row[:columns]
        result.append([*([""] * columns if is_same else row[:columns]), *row[columns:]])
    return result
