"""Helpers of the tests that run on a real kernel: namespaces, a running ``collect``, matching events."""
