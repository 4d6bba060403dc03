"""Versions: ours, and that of the event format we write.

Upstream's reader takes the *format* from ``startup.retis_version`` and refuses anything below 1.5.0, so the
string written to files starts with the upstream version whose format it is; ours follows as build metadata.
"""

__all__ = ["EVENT_FORMAT", "RELEASE_NAME", "__version__", "file_version"]

__version__ = "0.1.0"
RELEASE_NAME = "first light"
EVENT_FORMAT = "1.7.0"


def file_version() -> str:
    """The ``retis_version`` of files we write, e.g. ``v1.7.0+retis-py-0.1.0``."""
    return f"v{EVENT_FORMAT}+retis-py-{__version__}"
