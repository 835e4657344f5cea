"""The command line: one module per verb, each parse → call → print. Frameworks are never imported here."""
