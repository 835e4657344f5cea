"""Importers: tables and logs that others made, recognised by content and brought into one form."""
