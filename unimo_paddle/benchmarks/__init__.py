"""Benchmarks that compare the fused operators with other forms of the same computation."""

from __future__ import annotations

from typing import Any

Row = dict[str, Any]  # one line of a table: column name -> value
