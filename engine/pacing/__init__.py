"""Asking no more of a server than it is willing to give, and obeying it when it asks for less.

pacer.py is what a connection knows of it; pace.py decides; state.py is what is shared about one account, budget.py and silent.py are
parts of the judgement, store.py keeps the state between connections (and, in a portal, between workers).
"""
