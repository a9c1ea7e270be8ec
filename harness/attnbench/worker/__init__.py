"""The code that runs in workers: it imports torch, loads a plugin, and measures one of the plugin's variants."""
