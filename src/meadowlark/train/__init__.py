"""Fine-tuning: encode, pack, attend, train, and measure against a bigram model.

The way through is ``run.train``; ``options`` holds what it can be told. Nothing here imports
polars, datasets or trl, so that it runs on a plain GPU image.
"""

import logging

# On a CPU bitsandbytes looks for one more kernel in a package that nobody has, and says so to all.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
