"""Errors, label spaces, prediction tables, fingerprints and safe file writing; imports no torch."""
