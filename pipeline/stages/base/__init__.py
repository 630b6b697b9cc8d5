"""Stage base: pretrain a small base model, or import one."""
