"""Everything `make demo` needs beside the product: two real mail servers, sample mail, sample projects, a check of the result.

Must not be imported by the rest of the portal. Nothing here listens anywhere but on loopback.
"""
