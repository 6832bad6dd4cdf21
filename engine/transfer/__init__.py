"""Moving the messages: the plan, what is there already, what was in flight when a worker died, reading, appending, proving, what changed
since, and taking back what a pass appended.

Invariants of the whole package:
- no byte of a message is sent before its intent is durable in the ledger (engine/ledger.py);
- a run is written only for a destination UID that the server named (APPENDUID) or that we read back;
- nothing is removed at the destination but, when it is undone, what a pass appended, and a surplus copy that lies in a watched window, has
  our bytes and our date, and whose message has another copy accounted for;
- within a folder messages are sent in the source's order, but for what was refused at first or given only in parts (counted:
  `out_of_order`), and where the last days were asked for first;
- messages in memory are bounded in octets by WINDOW_BYTES (of reading and of writing), QUEUE_BYTES and STREAM_BUFFER (of handing),
  whatever the mailbox; of all others there is at most a line of metadata.
"""
