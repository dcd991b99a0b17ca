"""Memory: predicted peaks, from architectures and prompt lengths alone."""
