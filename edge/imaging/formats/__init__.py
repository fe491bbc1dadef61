"""What an image file claims, read and checked without decoding a pixel: one module per container format."""
