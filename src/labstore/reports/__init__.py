"""Everything that may be said to people: one class per message, with a code, a typed payload and a severity."""
