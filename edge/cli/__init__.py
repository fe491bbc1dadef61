"""The command line: one module per noun; each parses, calls one function and prints. Nothing else prints."""
