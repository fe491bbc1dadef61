"""Judging: figures, calibration, conformal sets, robustness, tables and a report, from what a network said of cells."""
