"""The results that the engine hands back, one module for each command, and their JSON forms (field names are public: command line,
portal). Apart, because a run loads only its own."""
