"""The plugin contract, the loading of plugins (only in workers), and templates for new plugins."""
