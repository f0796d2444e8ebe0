"""`python -m etl` is `nimble-etl`."""

from etl.cli import main

main()
