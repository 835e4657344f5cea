"""The table of a study: datasets × (rows, shares, metrics of runs) with totals."""
