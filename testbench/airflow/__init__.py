"""Airflow of the bench: PostgreSQL and the four Airflow processes, on loopback, from this checkout."""
