"""Compares the product with recordings of the original program, file by file."""

from unimo_paddle.reference.checking import Row, check_folder, format_rows

__all__ = ["Row", "check_folder", "format_rows"]
