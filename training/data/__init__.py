"""Images and labels: sources, splits, crops, augmentation, batches."""
