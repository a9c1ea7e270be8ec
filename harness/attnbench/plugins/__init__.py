"""The plugin contract, the loading of plugins, and templates. Runs on both sides; only workers load plugins."""
