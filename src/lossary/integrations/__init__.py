"""Other tools: a module each, which imports its tool when it is asked for and not before."""
