"""Guard models: which of their prompts is made of a conversation, and what their replies mean."""
