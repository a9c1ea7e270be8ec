"""The worker process, which imports torch and a plugin and measures one of the plugin's variants."""
