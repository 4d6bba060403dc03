"""Tests of retis_py; a package, so that helpers in ``tests.lab`` and ``tests.support`` can be imported."""
