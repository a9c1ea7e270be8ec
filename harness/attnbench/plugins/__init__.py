"""The plugin contract, plugin loading and templates. This package runs on both sides, but only workers load plugins."""
