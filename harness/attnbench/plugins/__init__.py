"""The plugin contract, plugin loading, and templates for new plugins; only workers load plugins."""
