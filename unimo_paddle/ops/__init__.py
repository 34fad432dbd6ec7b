"""Fused operators and their references in plain Paddle; importing them imports Paddle."""
