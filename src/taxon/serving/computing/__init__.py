"""What computes: batches, engines, computing processes."""
