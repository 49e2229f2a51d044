"""The endpoint of a cascade: one OpenAI-compatible server before a student and its teacher."""
