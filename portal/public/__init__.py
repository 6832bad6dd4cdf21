"""Pages that anybody may open: what this is, the language switch, error pages, and the two addresses that machines ask."""
