"""The plugin contract, the loading of plugins, and templates. Runs on both sides, but only workers load plugins."""
