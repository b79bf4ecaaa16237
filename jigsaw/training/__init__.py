"""Training: the supervised stage, GRPO, what they log, and the mixture that they read. Built on TRL's trainers."""
