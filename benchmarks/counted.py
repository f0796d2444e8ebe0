"""nimble-etl while its instructions are counted: that takes 50 times as long, and no answer must pass for slow for it.

python -m benchmarks.counted run --config FILE
"""

from etl.cli import main
from etl.extract import source
from etl.pipeline import ahead

if __name__ == "__main__":
    source.SLOW_S = ahead.SLOW_S = float("inf")
    main()
