"""Staff sign in, sign out, their account and the invitation page."""
