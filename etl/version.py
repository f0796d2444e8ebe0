"""The version of this code. What is installed may be another one: see `etl.pipeline.travel`."""

VERSION = "0.1.0"
