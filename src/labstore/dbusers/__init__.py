"""Database accounts for every tool and user: the directory says who, the ledger what, servers and files follow."""
