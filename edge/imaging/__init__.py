"""Pure functions from arrays to arrays: decode, flat-field, quality, locate, crop, preprocess."""
