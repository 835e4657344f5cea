"""Why one run is worse than another: sides, checks, hypotheses put into the reference, verdicts."""
