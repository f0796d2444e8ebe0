"""Asks the catalog and changes nothing."""
