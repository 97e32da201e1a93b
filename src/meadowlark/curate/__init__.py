"""Curation of rows: the near-duplicate filter, mixing, and the description of what a set holds."""
