"""One self-contained page over any number of runs: data, training, scores, examples, provenance.

The room is a leaf: it reads what other stages left in their folders and nothing calls into it.
``read`` gathers the runs, ``lineage`` orders them, one module a section makes tables and figures
(``plots``, ``graph``), and ``page`` writes ``report.html`` with its tables beside it.
"""
