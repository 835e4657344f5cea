"""Planning: what a change of the study file or of its sources would keep, make, or lose; and generations."""
