"""The command line: what a person types and sees."""

from etl.cli.app import app, main

__all__ = ["app", "main"]
