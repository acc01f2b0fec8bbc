"""Near-duplicates: perceptual hashes, their search, and groups of pictures that look the same."""
