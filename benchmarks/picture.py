"""Draw memory over time.

python benchmarks/picture.py SAMPLES.csv PICTURE.png
"""

import csv
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt

samples, picture = Path(sys.argv[1]), Path(sys.argv[2])
with samples.open() as file:
    seconds, mebibytes = zip(*((float(at), float(size)) for at, size in csv.reader(file)), strict=True)

figure, axes = plt.subplots(figsize=(8, 3), layout="constrained")
axes.plot(seconds, mebibytes, linewidth=1)
axes.axhline(300, color="gray", linewidth=1, linestyle="--")
axes.set(xlabel="seconds", ylabel="resident memory, MiB", ylim=(0, None), title="An export of 2,000,000 sessions")
figure.savefig(picture, dpi=120)
