"""What keeps the documentation true: see `docs.tools.examples` and `docs.tools.reference`."""
