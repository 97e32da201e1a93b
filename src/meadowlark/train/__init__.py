"""Fine-tuning: encode, pack, attend, train, and measure against a bigram model.

The way through is ``run.train``; ``options`` holds what it can be told. Nothing here imports
polars, datasets or trl, so that it runs on a plain GPU image.
"""
