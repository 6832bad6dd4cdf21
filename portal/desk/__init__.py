"""The helpdesk's pages: who is stuck, why, and what to do about it."""
