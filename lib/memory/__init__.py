"""Memory: predicted peaks, from architectures and prompt lengths alone; what fits, and what a GPU measured."""
