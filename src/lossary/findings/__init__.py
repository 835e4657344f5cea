"""Findings: what a careful reader would remark on a table, each with evidence, test, threshold and next step."""
