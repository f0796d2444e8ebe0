"""The steps that jobs share, in the order of the data."""
