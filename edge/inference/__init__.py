"""From crops to calls: which variant of a bundle runs here, the classifier, and what its calls rest on."""
