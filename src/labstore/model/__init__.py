"""The field's nouns as frozen values. Constructors parse or raise ValueError; nothing here does input or output."""
