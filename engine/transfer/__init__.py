"""Moving the messages: what is there already, what was in flight when a worker died, reading, appending, proving.

Invariants of the whole package:
- no byte of a message is sent before its intent is durable in the ledger (engine/ledger.py);
- a run is written only for a destination UID that the server named (APPENDUID) or that we read back;
- nothing is removed at the destination but a surplus copy that lies in a watched window, has our bytes and our date, and whose
  message has another copy accounted for;
- within a folder messages are sent in the source's order;
- messages in memory are bounded in octets by WINDOW_BYTES, QUEUE_BYTES and STREAM_BUFFER, whatever the mailbox; of all others there
  is at most a line of metadata.
"""
