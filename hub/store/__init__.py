"""The truth: SQLite or PostgreSQL. The only package that imports SQLAlchemy; one module per aggregate."""
