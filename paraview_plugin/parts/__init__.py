"""What the plugin's proxies are made of. A folder, because ParaView loads every file beside the plugin as a plugin."""
