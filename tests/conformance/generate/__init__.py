"""Makes the golden set: bases, adapters and expected merges with PEFT and transformers, and inputs to refuse."""
