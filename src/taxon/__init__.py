"""taxon: from a folder of images to a classifier that a team can trust and run."""
