"""``python -m meadowlark`` runs the same command line as ``meadowlark``."""

from meadowlark.cli import main

main()
