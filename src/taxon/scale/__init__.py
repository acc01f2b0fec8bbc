"""Many machines, by Ray: batches, a Ray Serve application, a Ray Train job; an extra."""
