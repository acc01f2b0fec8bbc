"""Many machines, by Ray, an optional extra: batch inference, Ray Serve, a Ray Train job."""
