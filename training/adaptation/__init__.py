"""Commissioning of a new microscope: its statistics, its normalisation, few labelled cells, and a gate that refuses."""
