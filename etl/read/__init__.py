"""Asks the catalog, read-only: queries and the report."""
