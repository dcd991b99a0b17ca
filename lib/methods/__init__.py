"""Methods: context distillation and in-context learning distillation; what a run does."""
