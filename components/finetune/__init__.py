"""The step `finetune`."""
