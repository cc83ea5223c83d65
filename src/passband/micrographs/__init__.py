"""Micrographs: readers of every format, in a guarded child process, and the way through many files."""
