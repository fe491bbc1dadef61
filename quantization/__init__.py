"""From a trained network to a bundle: INT8, parity, calibration, packing."""
