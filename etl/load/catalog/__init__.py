"""The DuckDB file that people connect to: built aside, swapped in."""
