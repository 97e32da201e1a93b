"""People's judgement: blind comparison of two models' answers, and review of generated rows.

One small server (or spreadsheets, where there is none) over one SQLite file. What comes out is what
other stages write: verdicts that ``score`` reads, or a data set that ``mix`` and ``train`` read.
"""
