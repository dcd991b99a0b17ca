"""Models: loading, adapting, scoring under a shared prefix, losses, one training loop, measured cost."""
