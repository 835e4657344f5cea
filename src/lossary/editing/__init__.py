"""Changes to the study file that keep its comments and form, and what they mean for what was made."""
