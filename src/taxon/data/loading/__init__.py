"""Loading: batches for training and evaluation, augmentation, and the cache of decoded pictures."""
