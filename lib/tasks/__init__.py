"""Tasks: examples and where they come from, samples, patterns and verbalizers, prompts as token ids."""
