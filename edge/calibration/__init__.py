"""Commissioning: what blank fields, a focus sweep and a scale say of one microscope, kept as versioned records."""
