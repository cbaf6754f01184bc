"""Fresh adapters, run against the binary and compared with PEFT and transformers."""
