"""Runs: profiles, records and keys, the store, execution."""
