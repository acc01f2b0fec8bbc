"""Plain functions on features: nearest neighbours, and which pictures to label next."""
