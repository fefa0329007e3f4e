"""Tables of what members keep: images, presets, and how it is erased."""
