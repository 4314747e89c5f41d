"""Measurements of the pipeline on the bench, printed as tables for docs/performance.md. Never a test."""
