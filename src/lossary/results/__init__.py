"""Score and step records: their Arrow schemas and Parquet files."""
