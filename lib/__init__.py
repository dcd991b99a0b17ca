"""Few-shot distillation for language models: the parts that the notebooks are written with."""
