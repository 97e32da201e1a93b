"""Meadowlark makes, trains, evaluates and serves medical instruction-tuned language models.

Research software: nothing made with it is for decisions about anybody's care.
"""

__version__ = "0.1.0"
