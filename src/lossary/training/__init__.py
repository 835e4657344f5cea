"""Training: the loop, and the job that a worker process runs."""
