"""What comes out: the schema of rows, their store, tables, figures and the report."""
