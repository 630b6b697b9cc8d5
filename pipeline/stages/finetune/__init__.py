"""Stage finetune: train one generator on the training pairs."""
