"""The lab: a throw-away virtual machine with a stock distribution kernel, for tests that need a real one."""
