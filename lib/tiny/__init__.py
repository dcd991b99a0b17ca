"""The two shipped models of the controlled world: how they were trained, and their weights."""
