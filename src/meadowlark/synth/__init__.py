"""AlpaCare's data engine: seed tasks to new tasks (``generate``), tasks to answers (``respond``).

Both ask a teacher model through its journal; prompts are text files in ``prompts/``.
"""
