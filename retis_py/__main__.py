"""``python -m retis_py`` is ``retis``."""

from retis_py.cli import main

main()
