"""Metrics on arrays and lists."""
