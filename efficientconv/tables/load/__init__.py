"""Reading published tables from their files."""
