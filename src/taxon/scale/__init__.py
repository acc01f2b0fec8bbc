"""Many machines, by Ray: batch inference, a Ray Serve application, a Ray Train job; an optional extra."""
