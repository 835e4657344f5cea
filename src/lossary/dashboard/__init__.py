"""The local dashboard: a read-only web app over the same views and templates as the report."""
