"""Inference runtimes, one class a file, and the probe that tries one in a child process."""
