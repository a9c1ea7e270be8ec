"""The plugin contract, plugin loading, and templates for new plugins. Only workers load plugins."""
