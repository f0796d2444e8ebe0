"""Nightly export of AWS list APIs into a columnar warehouse."""
