//! What befalls servers.
