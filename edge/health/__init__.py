"""Is this device fit, and how fast is it."""
