"""Statistics of a table: estimators, intervals, totals. NumPy and SciPy only; undefined is None with a reason."""
