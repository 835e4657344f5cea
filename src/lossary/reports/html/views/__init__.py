"""What a page shows, as plain records: one module a section, made from a table and its findings, free of markup."""
