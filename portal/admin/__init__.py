"""The domain admin's and the operator's pages: projects, people, links, relays, staff, audit."""
