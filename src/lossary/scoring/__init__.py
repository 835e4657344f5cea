"""Evaluation: the validation set to scores, and the job that a worker process runs."""
