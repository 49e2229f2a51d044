"""From plain values of a config to typed ones: types, trusted classes, names of other tools."""
