"""The plugin contract, the loading of plugins (used only in workers), and the templates for new plugins."""
