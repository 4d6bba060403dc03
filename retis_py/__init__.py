"""retis_py: trace packets through the Linux network stack."""

from retis_py.version import __version__

__all__ = ["__version__"]
