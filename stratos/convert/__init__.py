"""Convert plain config values to typed ones: types, trusted classes, aliases."""
