"""The receiving server: many devices send their results here, people review and sign them, and the answer goes back.

Everything here needs the extra `hub`. Nothing else of `edge` imports it; `edge.cli.hub` does so when it is asked to.
"""
