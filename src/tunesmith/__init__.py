"""OpenAI-style fine-tuning through one Python SDK."""
