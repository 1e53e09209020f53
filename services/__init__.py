"""The domain: one folder a service, all alike. Services never import each other."""
