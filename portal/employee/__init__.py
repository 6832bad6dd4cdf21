"""The pages of a person whose mailbox moves: from the personal link to the report."""
