"""The plugin contract, plugin loading and templates. Used on both sides, but only workers load plugins."""
