"""What can be traced here: probes with their useful arguments, collectors, and the system as a whole.

Nothing here needs root: what cannot be read without is said, never guessed.
"""
