"""What touches hardware; implements the protocols that `edge.core` declares."""
