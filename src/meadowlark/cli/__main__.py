"""``python -m meadowlark.cli`` runs the same command line as ``meadowlark``."""

from meadowlark.cli import main

main()
