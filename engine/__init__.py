"""The mover: moves one mailbox from one mail server to another, and says what is wrong when it cannot.

Owns: sessions, folders, transfer, ledger, check, verify, causes, the provider catalogue.
Must not: import Flask, RQ, Redis, SQLAlchemy, or anything of portal, relay or worker.
Always: the source is only read (EXAMINE, BODY.PEEK); every wait has a deadline; every loop over mail is bounded in bytes.
"""
